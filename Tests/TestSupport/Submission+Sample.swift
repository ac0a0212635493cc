package import Jobs
package import OrderedJSON
import OrderedCollections
import Workflow

extension Submission {
    /// A picture that is saved, by a graph that every ComfyUI runs.
    package static func sample(_ options: Options = Options(), metadata: JSONObject? = nil) throws -> Submission {
        let graph: JSON = ["1": ["class_type": "EmptyImage", "inputs": [:]], "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0]]]]
        return Submission(workflow: try Workflow(checking: graph), outputNodes: ["2"], metadata: metadata, options: options)
    }
}
