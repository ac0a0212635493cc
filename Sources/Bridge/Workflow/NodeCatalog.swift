import OrderedCollections
import OrderedJSON

/// What ComfyUI's `/object_info` says about its node classes, reduced to what a check before the submit needs.
///
/// ComfyUI checks again and knows more (types, ranges, choices); this one keeps the common mistakes from ever reaching
/// it, and answers a submission at once, while the job would wait in the queue.
struct NodeCatalog: Sendable {
    struct NodeClass: Sendable {
        let isOutput: Bool
        let outputCount: Int
        let requiredInputs: [String]
        /// Inputs that name a file for a loader to read; ComfyUI does not confine them (protocol section 14).
        let fileInputs: [String]
    }

    private(set) var classes: [String: NodeClass] = [:]
    /// Names that ComfyUI exchanges for their successors before it checks (protocol section 2.2); of what shape, only it knows.
    private let replaced: Set<String>

    init(objectInfo: JSONObject, replaced: Set<String> = []) {
        self.replaced = replaced
        for (name, info) in objectInfo { add(name, info) }
    }

    /// What the workflow uses, each class from the first catalog that has it.
    init(of workflow: Workflow, from catalogs: [NodeCatalog]) {
        let names = workflow.classTypes
        replaced = names.filter { name in catalogs.contains { $0.replaced.contains(name) } }
        for name in names { classes[name] = catalogs.lazy.compactMap { $0.classes[name] }.first }
    }

    /// Adds one class, for example one that was installed since the catalog was read.
    mutating func add(_ name: String, _ info: JSON) {
        var required: [String] = []
        var files: [String] = []
        for group in ["required", "optional"] {
            for (input, definition) in info["input"]?[group]?.object ?? [:] {
                let type = definition[0]?.string
                // Version 3 nodes declare inputs that grow and branch at run time; only ComfyUI can check those.
                if group == "required", type?.hasPrefix("COMFY_") != true { required.append(input) }
                let options = definition[1]?.object ?? [:]
                if options.contains(where: { $0.key.hasSuffix("_upload") && $0.value == true }) { files.append(input) }
            }
        }
        classes[name] = NodeClass(
            isOutput: info["output_node"]?.bool ?? false, outputCount: info["output"]?.array?.count ?? 0, requiredInputs: required, fileInputs: files)
    }

    /// The classes of the workflow that are not in the catalog.
    func unknownClasses(in workflow: Workflow) -> Set<String> {
        workflow.classTypes.filter { classes[$0] == nil && !replaced.contains($0) }
    }

    /// The nodes that produce something to keep; ComfyUI runs these and what they need.
    func outputNodes(of workflow: Workflow) -> Set<String> {
        let outputs = workflow.classTypes.filter { classes[$0]?.isOutput ?? false }
        return Set(workflow.nodes.lazy.filter { outputs.contains($0.value.classType) }.map(\.key))
    }

    /// Everything wrong with the workflow that can be told without running ComfyUI's own validation. As there, nodes that
    /// no output needs are only checked for their class.
    func faults(in workflow: Workflow) -> [WorkflowFault] {
        var faults: [WorkflowFault] = []
        let unknown = unknownClasses(in: workflow)
        for (id, node) in workflow.nodes where unknown.contains(node.classType) {
            faults.append(
                WorkflowFault(
                    node: id, field: "class_type", reason: "missing_node_type", classType: node.classType,
                    message: "Node '\(id)' has the class \(node.classType), which this ComfyUI does not know; install its node pack or correct the name."))
        }
        // The rest can only be judged by who knows every node.
        guard workflow.classTypes.allSatisfy({ classes[$0] != nil || unknown.contains($0) }) else { return faults }
        let outputs = outputNodes(of: workflow)
        if faults.isEmpty, outputs.isEmpty {
            faults.append(
                WorkflowFault(reason: "prompt_no_outputs", message: "The workflow has no output node; add one such as SaveImage, PreviewImage or SaveImageWebsocket."))
        }
        let needed = workflow.reachable(from: outputs)
        for (id, node) in workflow.nodes where needed.contains(id) {
            faults.append(contentsOf: inputFaults(id, node, in: workflow))
        }
        return faults
    }

    private func inputFaults(_ id: String, _ node: Workflow.Node, in workflow: Workflow) -> [WorkflowFault] {
        guard let nodeClass = classes[node.classType] else { return [] }
        func fault(_ field: String, _ reason: String, _ message: String) -> WorkflowFault {
            WorkflowFault(node: id, field: field, reason: reason, classType: node.classType, message: "Node '\(id)' (\(node.classType)): \(message)")
        }
        var faults = nodeClass.requiredInputs.filter { node.inputs[$0] == nil }.map {
            fault($0, "required_input_missing", "required input '\($0)' is missing.")
        }
        for link in node.links {
            guard let source = workflow.nodes[link.source] else {
                faults.append(fault(link.input, "bad_linked_input", "input '\(link.input)' is linked to node '\(link.source)', which the workflow does not have."))
                continue
            }
            if let sourceClass = classes[source.classType], !(0..<sourceClass.outputCount).contains(link.output) {
                faults.append(
                    fault(
                        link.input, "bad_linked_input",
                        "input '\(link.input)' is linked to output \(link.output) of node '\(link.source)' (\(source.classType)), which has \(sourceClass.outputCount)."))
            }
        }
        for input in nodeClass.fileInputs {
            guard let name = node.inputs[input]?.string else { continue }
            let parts = name.split(whereSeparator: { $0 == "/" || $0 == "\\" })
            if name.hasPrefix("/") || name.hasPrefix("\\") || name.dropFirst().hasPrefix(":") || parts.contains("..") {
                faults.append(fault(input, "unsafe_path", "input '\(input)' must name a file inside ComfyUI's input folder, without '..' and not an absolute path."))
            }
        }
        return faults
    }
}
