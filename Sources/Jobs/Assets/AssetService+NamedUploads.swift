import OrderedCollections
import OrderedJSON
package import Workflow

extension AssetService {
    /// Loaders that name a file which was uploaded to the bridge get that one.
    package func namedUploads(in workflow: Workflow, _ catalog: NodeCatalog) async throws -> [Submission.Input] {
        let fileInputs = catalog.classes.mapValues(\.fileInputs).filter { !$0.value.isEmpty }
        var inputs: [Submission.Input] = []
        for (id, node) in workflow.nodes {
            for input in fileInputs[node.classType] ?? [] {
                guard var name = node.inputs[input]?.string, name.utf8.count <= AssetPath.lengthLimit + 8 else { continue }
                if name.utf8.suffix(8).elementsEqual(" [input]".utf8) { name = String(Substring(name.utf8.dropLast(8))) }
                guard let asset = try await upload(at: name) else { continue }
                inputs.append(.init(place: .input(node: id, name: Name(input)), asset: asset))
            }
        }
        return inputs
    }
}
