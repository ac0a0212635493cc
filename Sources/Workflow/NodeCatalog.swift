import OrderedCollections
package import OrderedJSON
import Wording

/// What ComfyUI's `/object_info` says about its node classes, reduced to what a check before the submit needs.
///
/// ComfyUI checks again and knows more (types, ranges, choices); this one keeps the common mistakes from ever reaching
/// it, and answers a submission at once, while the job would wait in the queue.
package struct NodeCatalog: Sendable {
    package struct NodeClass: Sendable {
        fileprivate(set) var isOutput: Bool
        package let outputCount: Int
        /// Outputs that may be text.
        fileprivate let textOutputs: Set<Int>
        let requiredInputs: [String]
        /// Those that files hang on; `parent.*` is what grows below an input at run time.
        fileprivate(set) var fileUses: [Name: FileUse]

        /// Inputs that name a file for a loader to read.
        package var fileInputs: [String] { fileUses.filter { $0.value == .file }.map(\.key.text) }

        fileprivate func mayBeText(output: Int) -> Bool { !(0..<outputCount).contains(output) || textOutputs.contains(output) }

        fileprivate func fileUse(of input: String) -> FileUse? {
            if let use = fileUses[input] { return use }
            if let dot = input.utf8.lastIndex(of: UInt8(ascii: ".")), let use = fileUses[input[...dot] + "*"] { return use }
            return declared.contains(input) ? nil : FileUse(ofUndeclared: input)
        }

        fileprivate let declared: Set<Name>

        /// The same as another ComfyUI has it, which may be the one that runs it: what either calls a file is one.
        fileprivate mutating func add(filesOf other: NodeClass) {
            isOutput = isOutput || other.isOutput
            for (input, use) in other.fileUses { fileUses[input] = use.merged(with: fileUses[input]) }
        }
    }

    /// Bytes of the name of a file with its folders; more is its content, pasted into the wrong place.
    private static let fileNameLimit = 1024

    package private(set) var classes: [Name: NodeClass] = [:]
    /// Names that ComfyUI exchanges for their successors before it checks (protocol section 2.2); of what shape, only it knows.
    private let replaced: Set<Name>
    /// What workflows may do with files, wherever they are checked.
    private let fileRules: FileRules

    package init(objectInfo: JSONObject, replaced: Set<Name> = [], fileRules: FileRules = FileRules()) {
        self.replaced = replaced
        self.fileRules = fileRules
        for (name, info) in objectInfo { add(name, info) }
    }

    /// What the workflow uses, each class from the first catalog that has it.
    package init(of workflow: Workflow, from catalogs: [NodeCatalog]) {
        let names = workflow.classTypes
        fileRules = catalogs.first?.fileRules ?? FileRules()
        replaced = names.filter { name in catalogs.contains { $0.replaced.contains(name) } }
        for name in names {
            let known = catalogs.compactMap { $0.classes[name] }
            guard var first = known.first else { continue }
            for other in known.dropFirst() { first.add(filesOf: other) }
            classes[name] = first
        }
    }

    /// Adds one class, for example one that was installed since the catalog was read.
    package mutating func add(_ name: String, _ info: JSON) {
        var required: [String] = []
        var declared: Set<Name> = []
        var uses: [Name: FileUse] = [:]
        let isOutput = info["output_node"]?.bool ?? false
        func add(_ input: String, _ definition: JSON) {
            switch definition[0]?.string {
            case "COMFY_DYNAMICCOMBO_V3":
                for option in definition[1]?["options"]?.array ?? [] { addAll(below: input, option["inputs"]) { $0 } }
            case "COMFY_AUTOGROW_V3":
                addAll(below: input, definition[1]?["template"]?["input"]) { _ in "*" }
            default:
                declared.insert(Name(input))
                let ownName = input.split(separator: ".").last { $0 != "*" }.map(String.init) ?? input
                if let use = FileUse(of: ownName, in: name, isOutput: isOutput, definition) { uses[input] = use.merged(with: uses[input]) }
            }
        }
        func addAll(below parent: String, _ groups: JSON?, _ named: (String) -> String) {
            for group in ["required", "optional"] {
                for (input, definition) in groups?[group]?.object ?? [:] { add("\(parent).\(named(input))", definition) }
            }
        }
        for group in ["required", "optional"] {
            for (input, definition) in info["input"]?[group]?.object ?? [:] {
                let type = definition[0]?.string
                // Version 3 nodes declare inputs that grow and branch at run time; only ComfyUI can check those.
                if group == "required", type?.hasPrefix("COMFY_") != true { required.append(input) }
                add(input, definition)
            }
        }
        let outputs = info["output"]?.array ?? []
        classes[name] = NodeClass(
            isOutput: isOutput, outputCount: outputs.count, textOutputs: Set(outputs.indices.filter { Self.mayBeText(outputs[$0]) }), requiredInputs: required,
            fileUses: uses, declared: declared)
    }

    private static func mayBeText(_ type: JSON) -> Bool {
        guard let name = type.string else { return true }  // a list of choices
        return name.split(separator: ",").contains { ["STRING", "*", "COMBO", "COMFY_MATCHTYPE_V3"].contains($0.trimmed) }
    }

    /// The classes of the workflow that are not in the catalog.
    package func unknownClasses(in workflow: Workflow) -> Set<Name> {
        workflow.classTypes.filter { classes[$0] == nil && !replaced.contains($0) }
    }

    /// The nodes that produce something to keep; ComfyUI runs these and what they need.
    package func outputNodes(of workflow: Workflow) -> Set<Name> {
        let outputs = workflow.classTypes.filter { classes[$0]?.isOutput ?? false }
        return Set(workflow.nodes.elements.lazy.filter { outputs.contains($0.value.classType) }.map(\.key))
    }

    /// Everything wrong with the workflow that can be told without running ComfyUI's own validation. As there, nodes that
    /// no output needs are only checked for their class.
    package func faults(in workflow: Workflow) -> WorkflowFaults {
        var faults = WorkflowFaults()
        let unknown = unknownClasses(in: workflow)
        for (id, node) in workflow.nodes where unknown.contains(node.classType) {
            faults.append(
                WorkflowFault(
                    node: id.text, field: "class_type", reason: "missing_node_type", classType: node.classType,
                    message: "Node '\(id)' has the class \(node.classType), which this ComfyUI does not know; install its node pack or correct the name."))
        }
        // The rest can only be judged by who knows every node.
        guard workflow.classTypes.allSatisfy({ classes[$0] != nil || unknown.contains($0) }) else {
            for (id, node) in workflow.nodes { addFileFaults(of: id.text, node, in: workflow, to: &faults) }
            return faults
        }
        let outputs = outputNodes(of: workflow)
        if faults.isEmpty, outputs.isEmpty {
            faults.append(
                WorkflowFault(reason: "prompt_no_outputs", message: "The workflow has no output node; add one such as SaveImage, PreviewImage or SaveImageWebsocket."))
        }
        let needed = workflow.reachable(from: outputs)
        for (id, node) in workflow.nodes where needed.contains(id) {
            addInputFaults(of: id.text, node, in: workflow, to: &faults)
            addFileFaults(of: id.text, node, in: workflow, to: &faults)
        }
        return faults
    }

    private func addInputFaults(of id: String, _ node: Workflow.Node, in workflow: Workflow, to faults: inout WorkflowFaults) {
        guard let nodeClass = classes[node.classType] else { return }
        func fault(_ field: String, _ reason: String, _ message: String) -> WorkflowFault {
            WorkflowFault(node: id, field: field, reason: reason, classType: node.classType, message: "Node '\(id)' (\(node.classType)): \(message)")
        }
        for input in nodeClass.requiredInputs where node.inputs[input] == nil {
            faults.append(fault(input, "required_input_missing", "required input '\(input)' is missing."))
        }
        for link in node.links {
            guard let source = workflow.nodes[link.source] else {
                faults.append(fault(link.input, "bad_linked_input", "input '\(link.input)' is linked to node '\(link.source.excerpt)', which the workflow does not have."))
                continue
            }
            if let sourceClass = classes[source.classType], !(0..<sourceClass.outputCount).contains(link.output) {
                faults.append(
                    fault(
                        link.input, "bad_linked_input",
                        "input '\(link.input)' is linked to output \(link.output) of node '\(link.source)' (\(source.classType)), which has \(sourceClass.outputCount)."))
            }
        }
        // ComfyUI takes the list for a link, and finds no node with a number for a name.
        for (input, value) in node.inputs where nodeClass.declared.contains(input) {
            guard let pair = value.array, pair.count == 2, let source = pair[0].number, let output = pair[1].int, workflow.nodes[source.literal] != nil
            else { continue }
            faults.append(
                fault(
                    input, "bad_linked_input",
                    "input '\(input)' is linked to node \(source.literal) by a number; ids of nodes are strings: write [\"\(source.literal)\", \(output)]."))
        }
    }

    private func addFileFaults(of id: String, _ node: Workflow.Node, in workflow: Workflow, to faults: inout WorkflowFaults) {
        let nodeClass = classes[node.classType]
        func add(_ input: String, _ reason: String, _ message: String) {
            faults.append(WorkflowFault(node: id, field: input, reason: reason, classType: node.classType, message: "Node '\(id)' (\(node.classType)): \(message)"))
        }
        for link in node.links where nodeClass?.fileUse(of: link.input) == .file {
            let source = workflow.nodes[link.source].flatMap { classes[$0.classType] }
            if source?.mayBeText(output: link.output) ?? true {
                add(link.input, "unsafe_path", "input '\(link.input)' names a file and must not be linked to a text; write the name itself, so that it can be checked.")
            }
        }
        for (input, value) in node.inputs where Workflow.Link(input: input, value) == nil {
            // Of a class that ComfyUI replaces nothing is known; every text of it may be a name.
            guard let use = nodeClass.map({ $0.fileUse(of: input) }) ?? .choice(offered: []) else { continue }
            if use == .file, let name = value.string, name.utf8.count > Self.fileNameLimit || name.utf8.starts(with: "data:".utf8) {
                add(
                    input, "not_a_file_name",
                    "input '\(input)' must be the name of a file, and holds \(name.utf8.count) bytes ('\(name.excerpt(40))'). "
                        + "Upload the file with POST /api/v2/assets and write its file_path, or a reference to the asset.")
                continue
            }
            switch fileRules.breach(of: use, by: value, input, of: node.classType) {
            case .unconfined?:
                let message =
                    use == .path(isRead: false)
                    ? "input '\(input)' must name a place inside ComfyUI's output folder, without '..' and not an absolute path."
                    : "input '\(input)' must name a file inside ComfyUI's input folder, without '..' and not an absolute path. "
                        + "Upload the file (POST /api/v2/assets) and use its name or id."
                add(input, "unsafe_path", message)
            case .otherOutput?:
                add(
                    input, "isolated_output",
                    "input '\(input)' reads outputs by their name, which this bridge does not allow (--isolate-outputs). Use the id of the output instead: "
                        + #"{"__type": "core/ASSET", "info": {"id": "…"}}."#)
            case nil: break
            }
        }
    }
}
