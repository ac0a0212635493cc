import FoundationEssentials
import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// Submitting (protocol section 2).
extension Router {
    static let promptRoutes: [Route] = [
        Route(.GET, "/prompt") { router, _, _ in .json(["exec_info": ["queue_remaining": JSON(router.queue.remaining)]]) },
        Route(.POST, "/prompt") { router, request, _ in try router.submit(request) },
    ]

    private func submit(_ request: Request) throws -> Reply {
        logs.add("got prompt\n")
        guard let body = request.json else { throw UnexpectedBody() }
        switch body {
        case .object: break
        case .array, .string: return reject(Validator.error("no_prompt", "No prompt provided", details: "No prompt provided"))
        case .null, .bool, .number: throw UnexpectedBody()  // Python cannot search them for keys
        }
        let priority = try priority(body)
        guard let graph = body["prompt"] else {
            return reject(Validator.error("no_prompt", "No prompt provided", details: "No prompt provided"))
        }
        guard let id = promptID(body["prompt_id"]) else {
            return reject(
                Validator.error(
                    "invalid_prompt_id", "prompt_id must be a valid UUID",
                    details:
                        "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server generate one"))
        }
        var validator = Validator(catalog: services.catalog, folders: services.folders, compatibility: configuration.compatibility)
        let outcome = try validator.validate(graph, targets: try targets(body))
        let (extraData, isNull) = try extraData(body, request)
        switch outcome {
        case .rejected(let error, let nodeErrors):
            return reject(error, nodeErrors: nodeErrors)
        case .accepted(let graph, let outputs, let nodeErrors):
            let prompt = Prompt(
                id: id, priority: priority, graph: graph, extraData: extraData, outputs: outputs, client: ClientID(body["client_id"]),
                previews: previews(extraData), killsWorker: isNull || graph.values.contains { $0["inputs"] == nil })
            try queue.put(prompt)
            try services.faults.reached(.submit, prompt)
            return .json(["prompt_id": .string(id), "number": priority.json, "node_errors": nodeErrors])
        }
    }

    private func reject(_ error: JSON, nodeErrors: JSON = [:]) -> Reply {
        .json(["error": error, "node_errors": nodeErrors], status: .badRequest)
    }

    private func priority(_ body: JSON) throws -> Priority {
        if let given = body["number"] {
            let number = try Coercion.coerce(given, to: "FLOAT")
            guard let value = number.number.flatMap({ Double($0.literal) }) else { throw UnexpectedBody() }
            return Priority(given: value)
        }
        let counter = queue.nextCounter()
        return Priority(counter: body["front"].map(Coercion.isTruthy) ?? false ? -counter : counter)
    }

    /// A UUID as ComfyUI writes it.
    static func isPromptID(_ given: JSON) -> Bool {
        guard let text = given.string, let uuid = UUID(uuidString: text) else { return false }
        return uuid.uuidString.lowercased() == text
    }

    /// Nil: refused. 0.3.64 takes anything as text.
    private func promptID(_ given: JSON?) -> String? {
        guard let given, !(isNew && given.isNull) else { return UUID().uuidString.lowercased() }
        guard isNew else { return PythonText.str(given) }
        return Self.isPromptID(given) ? given.string : nil
    }

    private func targets(_ body: JSON) throws -> [JSON]? {
        switch body["partial_execution_targets"] {
        case nil, .null?: nil
        case .array(let list)?: list
        case .string(let text)?: text.map { .string(String($0)) }
        case .object(let members)?: members.keys.map(JSON.string)
        case .bool?, .number?: throw UnexpectedBody()
        }
    }

    /// What is stored with the prompt. Null with 0.3.64 and without a client id is taken, and kills the worker.
    private func extraData(_ body: JSON, _ request: Request) throws -> (JSONObject, isNull: Bool) {
        var data: JSONObject
        switch body["extra_data"] {
        case nil: data = [:]
        case .object(let members)?: data = members
        case .null? where !isNew && body["client_id"] == nil: return ([:], true)
        default: throw UnexpectedBody()
        }
        if let client = body["client_id"] { data["client_id"] = client }
        if isNew {
            data = data.withoutKeys
            data["create_time"] = JSON(services.faults.timestamp())
            if let source = request.headers.first(name: "comfy-usage-source") { data["comfy_usage_source"] = .string(source) }
        }
        return (data, false)
    }

    private func previews(_ extraData: JSONObject) -> Bool {
        guard isNew, let method = extraData["preview_method"]?.string else { return configuration.previewsByDefault }
        switch method {
        case "none": return false
        case "auto", "latent2rgb", "taesd": return true
        default: return configuration.previewsByDefault
        }
    }
}
