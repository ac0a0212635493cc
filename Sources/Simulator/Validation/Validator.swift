import OrderedCollections
import OrderedJSON

/// ComfyUI's `validate_prompt`: which outputs of a graph can run, and what is wrong with the others (protocol section 2.4).
struct Validator {
    enum Outcome {
        /// `graph` holds coerced values; `nodeErrors` says what was dropped.
        case accepted(graph: JSONObject, outputs: [String], nodeErrors: JSON)
        case rejected(error: JSON, nodeErrors: JSON)
    }

    private struct Verdict {
        let isValid: Bool
        let errors: [JSON]
    }

    /// Python's own limit is about 1000 frames.
    private static let maximumDepth = 900

    private let catalog: NodeCatalog
    private let folders: Folders
    private let isNew: Bool
    private var graph: JSONObject = [:]
    private var verdicts: OrderedDictionary<String, Verdict> = [:]

    init(catalog: NodeCatalog, folders: Folders, compatibility: ComfySimulator.Compatibility) {
        self.catalog = catalog
        self.folders = folders
        isNew = compatibility >= .v0_25_0
    }

    /// - Parameter targets: the only outputs wanted; nil for all.
    /// - Throws: `UnexpectedBody` for graphs over which ComfyUI raises.
    mutating func validate(_ prompt: JSON, targets: [JSON]?) throws(UnexpectedBody) -> Outcome {
        switch prompt {
        case .object(let nodes): graph = nodes
        case .array(let list) where list.isEmpty && !isNew: graph = [:]
        default: throw UnexpectedBody()
        }
        if isNew {
            for node in graph.values {
                guard case .object(let members) = node else { throw UnexpectedBody() }
                if let inputs = members["inputs"], inputs.object == nil { throw UnexpectedBody() }
            }
        }
        var outputs: [String] = []
        for (id, node) in graph {
            guard let nodeClass = try checkClass(id, node) else {
                return .rejected(error: classError(id, node), nodeErrors: [:])
            }
            if nodeClass.isOutput, targets?.contains(.string(id)) ?? true { outputs.append(id) }
        }
        guard !outputs.isEmpty else {
            return .rejected(error: Self.error("prompt_no_outputs", "Prompt has no outputs", details: ""), nodeErrors: [:])
        }
        return judge(outputs)
    }

    static func error(_ type: String, _ message: String, details: String, extra: JSON = [:]) -> JSON {
        ["type": .string(type), "message": .string(message), "details": .string(details), "extra_info": extra]
    }

    // MARK: Classes

    /// Nil: unknown or missing.
    private func checkClass(_ id: String, _ node: JSON) throws(UnexpectedBody) -> NodeClass? {
        switch node {
        case .object(let members):
            switch members["class_type"] {
            case .string(let name)?: return catalog[name]
            case .array?, .object?: throw UnexpectedBody()
            case nil, .null?, .bool?, .number?: return nil
            }
        case .string, .array: return nil  // Python looks for the key in the text or list
        case .null, .bool, .number: throw UnexpectedBody()
        }
    }

    private func classError(_ id: String, _ node: JSON) -> JSON {
        let name = node["class_type"]
        guard isNew else {
            let message =
                name.map { "Cannot execute because node \(PythonText.str($0)) does not exist." }
                ?? "Cannot execute because a node is missing the class_type property."
            return Self.error("invalid_prompt", message, details: "Node ID '#\(id)'")
        }
        let title = node["_meta"]?["title"]
        let shown = title ?? name
        let label = shown.map(PythonText.str) ?? "ID #\(id)"
        let message =
            name == nil
            ? "Node '\(label)' has no class_type. The workflow may be corrupted or a custom node is missing."
            : "Node '\(label)' not found. The custom node may not be installed."
        return Self.error(
            "missing_node_type", message, details: "Node ID '#\(id)'",
            extra: ["node_id": .string(id), "class_type": name ?? .null, "node_title": shown ?? .null])
    }

    // MARK: Outputs

    private mutating func judge(_ outputs: [String]) -> Outcome {
        var good: [String] = []
        var details: [String] = []
        var nodeErrors: JSONObject = [:]
        for output in outputs {
            let verdict: Verdict
            do throws(PythonException) {
                verdict = try check(output, path: [])
            } catch {
                verdict = Verdict(
                    isValid: false,
                    errors: [
                        Self.error(
                            "exception_during_validation", "Exception when validating node", details: error.message,
                            extra: ["exception_type": .string(error.type), "traceback": traceback("validate_prompt")])
                    ])
                verdicts[output] = verdict
            }
            guard !verdict.isValid else {
                good.append(output)
                continue
            }
            details += verdict.errors.map { "\($0["message"]?.string ?? ""): \($0["details"]?.string ?? "")" }
            for (id, verdict) in verdicts where !verdict.isValid && !verdict.errors.isEmpty {
                let known = nodeErrors[id]?["dependent_outputs"]?.array ?? []
                nodeErrors[id] = [
                    "errors": .array(verdict.errors), "dependent_outputs": .array(known + [.string(output)]),
                    "class_type": graph[id]?["class_type"] ?? .null,
                ]
            }
        }
        guard good.isEmpty else { return .accepted(graph: graph, outputs: good, nodeErrors: .object(nodeErrors)) }
        let error = Self.error(
            "prompt_outputs_failed_validation", "Prompt outputs failed validation", details: details.joined(separator: "\n"))
        return .rejected(error: error, nodeErrors: .object(nodeErrors))
    }

    // MARK: Nodes

    /// - Parameter path: the nodes between the output and this one.
    private mutating func check(_ id: String, path: [String]) throws(PythonException) -> Verdict {
        if let verdict = verdicts[id] { return verdict }
        if let start = path.firstIndex(of: id) { return refuseCycle(Array(path[start...])) }
        guard path.count < Self.maximumDepth else {
            throw PythonException(type: "RecursionError", message: "maximum recursion depth exceeded")
        }
        guard let given = graph[id]?["inputs"] else { throw .missingKey("inputs") }
        guard let nodeClass = graph[id]?["class_type"]?.string.flatMap({ catalog[$0] }) else { throw .missingKey("class_type") }
        if given.object == nil, given.array == nil {
            throw PythonException(type: "TypeError", message: "argument of type '\(PythonText.typeName(given))' is not iterable")
        }

        var errors: [JSON] = []
        var isValid = true
        for input in nodeClass.inputs {
            guard let value = given[input.name] else {
                if input.isRequired {
                    errors.append(
                        Self.error(
                            "required_input_missing", "Required input is missing", details: input.name,
                            extra: ["input_name": .string(input.name)]))
                }
                continue
            }
            if case .array(let link) = value {
                switch try checkLink(input, link, path: path + [id]) {
                case .good: break
                case .badUpstream: isValid = false
                case .wrong(let error): errors.append(error)
                }
            } else if let error = checkValue(input, value, of: id, nodeClass) {
                errors.append(error)
            }
        }
        if let input = nodeClass.behavior.fileInput, let value = graph[id]?["inputs"]?[input], value.array == nil,
            !(value.string.map { folders.exists(annotated: $0) } ?? false)
        {
            errors.append(
                Self.error(
                    "custom_validation_failed", "Custom validation failed for node",
                    details: "\(input) - Invalid image file: \(PythonText.str(value))", extra: ["input_name": .string(input)]))
        }
        if let found = verdicts[id] { return found }  // part of a cycle
        let verdict = Verdict(isValid: isValid && errors.isEmpty, errors: errors)
        verdicts[id] = verdict
        return verdict
    }

    /// 0.25 tells each node of the cycle; before, Python's recursion limit left no message at all.
    private mutating func refuseCycle(_ cycle: [String]) -> Verdict {
        guard isNew else { return Verdict(isValid: false, errors: []) }
        let path = (cycle + [cycle[0]]).map { "\($0) (\(graph[$0]?["class_type"]?.string ?? ""))" }.joined(separator: " -> ")
        for id in cycle where verdicts[id] == nil {
            verdicts[id] = Verdict(
                isValid: false,
                errors: [
                    Self.error(
                        "dependency_cycle", "Dependency cycle detected", details: path,
                        extra: ["node_id": .string(id), "cycle_nodes": .array(cycle.map(JSON.string))])
                ])
        }
        return Verdict(isValid: false, errors: [])
    }

    // MARK: Links

    private enum LinkVerdict {
        case good
        /// What is wrong is said on another node.
        case badUpstream
        case wrong(JSON)
    }

    private mutating func checkLink(_ input: NodeClass.Input, _ link: [JSON], path: [String]) throws(PythonException) -> LinkVerdict {
        let base: JSONObject = ["input_name": .string(input.name), "input_config": input.config]
        guard link.count == 2 else {
            return .wrong(
                Self.error(
                    "bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", details: input.name,
                    extra: .object(base.merging(["received_value": .array(link)]) { $1 })))
        }
        if link[0].array != nil || link[0].object != nil {
            throw PythonException(type: "TypeError", message: "unhashable type: '\(PythonText.typeName(link[0]))'")
        }
        guard let upstream = link[0].string, let node = graph[upstream] else { throw .missingKey(link[0]) }
        let outputs = node["class_type"]?.string.flatMap { catalog[$0] }?.outputs ?? []
        guard case .number(let number) = link[1], PythonText.isInteger(number), let index = number.int else {
            throw PythonException(
                type: "TypeError", message: "tuple indices must be integers or slices, not \(PythonText.typeName(link[1]))")
        }
        let slot = index < 0 ? index + outputs.count : index
        guard outputs.indices.contains(slot) else { throw PythonException(type: "IndexError", message: "tuple index out of range") }
        let received = outputs[slot]
        guard Self.accepts(received, input.kind) else {
            return .wrong(
                Self.error(
                    "return_type_mismatch", "Return type mismatch between linked nodes",
                    details: "\(input.name), received_type(\(received)) mismatch input_type(\(input.typeText))",
                    extra: .object(base.merging(["received_type": .string(received), "linked_node": .array(link)]) { $1 })))
        }
        do throws(PythonException) {
            return try check(upstream, path: path).isValid ? .good : .badUpstream
        } catch {
            let details: JSONObject = [
                "exception_message": .string(error.message), "exception_type": .string(error.type),
                "traceback": traceback("validate_inputs"),
                "linked_node": .array(link),
            ]
            verdicts[upstream] = Verdict(
                isValid: false,
                errors: [
                    Self.error(
                        "exception_during_inner_validation", "Exception when validating inner node", details: error.message,
                        extra: .object(base.merging(details) { $1 }))
                ])
            return .badUpstream
        }
    }

    /// Types may be unions (`A,B`) and `*` fits everything; one common member is enough.
    private static func accepts(_ received: String, _ kind: NodeClass.Input.Kind) -> Bool {
        guard case .type(let wanted) = kind else { return received == "COMBO" }
        if received == wanted || received == "*" || wanted == "*" { return true }
        let names = { (text: String) in Set(text.split(separator: ",").map { $0.filter { $0 != " " } }) }
        return !names(received).isDisjoint(with: names(wanted))
    }

    // MARK: Values

    /// Coerces the value in the graph. Nil when it is good.
    private mutating func checkValue(_ input: NodeClass.Input, _ given: JSON, of id: String, _ nodeClass: NodeClass) -> JSON? {
        var value = given
        if let wrapped = given["__value__"] { value = wrapped }
        if case .type(let type) = input.kind {
            do throws(PythonException) {
                value = try Coercion.coerce(value, to: type)
            } catch {
                return Self.error(
                    "invalid_input_type", "Failed to convert an input value to a \(type) value",
                    details: "\(input.name), \(PythonText.str(value)), \(error.message)",
                    extra: [
                        "input_name": .string(input.name), "input_config": input.config, "received_value": value,
                        "exception_message": .string(error.message),
                    ])
            }
        }
        if value != given { setInput(input.name, to: value, of: id) }
        guard input.name != nodeClass.behavior.fileInput else { return nil }
        let extra: JSON = ["input_name": .string(input.name), "input_config": input.config, "received_value": value]
        if let minimum = input.options["min"], Coercion.isLess(value, minimum) {
            return Self.error(
                "value_smaller_than_min", "Value \(PythonText.str(value)) smaller than min of \(PythonText.str(minimum))",
                details: input.name,
                extra: extra)
        }
        if let maximum = input.options["max"], Coercion.isLess(maximum, value) {
            return Self.error(
                "value_bigger_than_max", "Value \(PythonText.str(value)) bigger than max of \(PythonText.str(maximum))",
                details: input.name,
                extra: extra)
        }
        if case .choices(let choices) = input.kind, !choices.contains(value) { return notInList(input, value, choices) }
        return nil
    }

    /// Long lists are counted, not printed.
    private func notInList(_ input: NodeClass.Input, _ value: JSON, _ choices: [JSON]) -> JSON {
        let isLong = choices.count > 20
        let list = isLong ? "(list of length \(choices.count))" : PythonText.repr(.array(choices))
        return Self.error(
            "value_not_in_list", "Value not in list", details: "\(input.name): '\(PythonText.str(value))' not in \(list)",
            extra: ["input_name": .string(input.name), "input_config": isLong ? .null : input.config, "received_value": value])
    }

    private mutating func setInput(_ name: String, to value: JSON, of id: String) {
        guard case .object(var node)? = graph[id], case .object(var inputs)? = node["inputs"] else { return }
        inputs[name] = value
        node["inputs"] = .object(inputs)
        graph[id] = .object(node)
    }

    /// As long as the real ones in kind: source lines of the server.
    private func traceback(_ function: String) -> JSON {
        let line = "    m = await validate_inputs(prompt_id, prompt, o, validated)\n"
        return [.string("  File \"/opt/ComfyUI/execution.py\", line \(isNew ? 1172 : 1010), in \(function)\n" + line)]
    }
}
