import Jobs
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Workers
import Workflow

/// Reads what a caller sends to be run, and checks it as far as that is possible without ComfyUI.
struct SubmissionReader: Sendable {
    let pool: WorkerPool
    let assets: AssetService

    /// How many assets that do not exist are told.
    private static let missingLimit = 100

    /// - Parameter acceptsBareGraph: `/run` also takes the graph itself as the body.
    func read(_ request: Request, acceptsBareGraph: Bool, options: Submission.Options) async throws -> Submission {
        let body = try request.json("Send the workflow as exported with Workflow > Export (API), for example with curl --data-binary @workflow_api.json.")
        var metadata: JSONObject?
        var extraData: JSONObject = [:]
        var options = options
        let graph: JSON
        if let members = body.object, let workflow = members["workflow"], workflow["class_type"] == nil {
            try checkMembers(members)
            if workflow.holdsJSON { throw APIError.invalidRequest("workflow", Self.doubled("member 'workflow'")) }
            graph = workflow
            metadata = try self.metadata(in: members)
            extraData = try extra(object("extra_data", in: members) ?? [:])
            options.priority = try priority(in: members) ?? options.priority
        } else if acceptsBareGraph {
            if let prompt = body["prompt"]?.object, prompt["class_type"] == nil {
                throw APIError.invalidRequest("prompt", "This is a body for ComfyUI's own /prompt. Send the graph alone, or as {\"workflow\": {…}}.")
            }
            if let prompt = body["prompt"], prompt.holdsJSON { throw APIError.invalidRequest("prompt", Self.doubled("member 'prompt'")) }
            if body.holdsJSON { throw APIError.invalidRequest("workflow", Self.doubled("body")) }
            graph = body
        } else if case .object = body {
            throw APIError.invalidRequest("workflow", "The member 'workflow' is missing. Send {\"workflow\": {…}} with the exported graph in it.")
        } else {
            throw APIError.invalidRequest("workflow", body.holdsJSON ? Self.doubled("body") : "The body is \(body.kindInWords); send an object: {\"workflow\": {…}}.")
        }
        do {
            let workflow = try Workflow(checking: graph, size: request.body.count)
            let referenced = try await referencedAssets(of: workflow)
            let outputNodes = try await check(workflow)
            let uploads = if let catalog = pool.catalog(for: workflow) { try await assets.namedUploads(in: workflow, catalog) } else { [Submission.Input]() }
            return Submission(
                workflow: workflow, outputNodes: outputNodes, inputs: referenced + uploads, extraData: extraData,
                metadata: metadata, options: options)
        } catch let error as WorkflowError {
            throw APIError(error)
        }
    }

    private func referencedAssets(of workflow: Workflow) async throws -> [Submission.Input] {
        var inputs: [Submission.Input] = []
        var missing: [String] = []
        for id in workflow.referencedAssets {
            if let asset = try await assets.asset(id.text) {
                inputs.append(.init(place: .reference(id: id), asset: asset))
            } else {
                missing.append(id.text)
                if missing.count == Self.missingLimit { break }
            }
        }
        guard missing.isEmpty else { throw APIError.missingAssets(missing) }
        return inputs
    }

    /// Checks against the node classes of all ComfyUIs; returns the output nodes. None while no classes are known: then the worker checks that
    /// is given the job.
    private func check(_ workflow: Workflow) async throws(WorkflowError) -> Set<Name> {
        guard var catalog = pool.catalog(for: workflow) else { return [] }
        let unknown = catalog.unknownClasses(in: workflow)
        if !unknown.isEmpty, unknown.count <= 20 {
            await pool.read(unknown)
            catalog = pool.catalog(for: workflow) ?? catalog
        }
        let faults = catalog.faults(in: workflow)
        guard faults.isEmpty else { throw .invalid(faults) }
        guard pool.canRun(workflow) else { throw .invalid([.scattered]) }
        return catalog.outputNodes(of: workflow)
    }

    private static func doubled(_ place: String) -> String {
        "The \(place) is a string that holds JSON, not the object itself: it was encoded twice. Send it without the quotes around it; "
            + "in Python, json.load the file first, and encode once."
    }

    private func checkMembers(_ members: JSONObject) throws {
        for name in members.names where !["workflow", "metadata", "extra_data", "priority"].contains(name) {
            let isReserved = name == "webhook_url" || name == "inputs"
            throw APIError.invalidRequest(
                name.text,
                "'\(name.text.excerpt)' is \(isReserved ? "reserved and not supported" : "not known"); "
                    + "possible are workflow, metadata, extra_data and priority.")
        }
    }

    private func object(_ name: String, in members: JSONObject) throws -> JSONObject? {
        switch members[name] {
        case nil, .null: return nil
        case .object(let value): return value
        case let other?:
            throw APIError.invalidRequest(name, other.holdsJSON ? Self.doubled("member '\(name)'") : "'\(name)' is \(other.kindInWords); it must be an object.")
        }
    }

    private func metadata(in members: JSONObject) throws -> JSONObject? {
        let metadata = try object("metadata", in: members)
        if let metadata, JSON.object(metadata).isLonger(than: Submission.metadataLimit) {
            throw APIError.invalidRequest(
                "metadata", "'metadata' has more than \(Submission.metadataLimit) bytes; it is kept and listed with the job. Keep large data elsewhere, and its name here.")
        }
        return metadata
    }

    private func priority(in members: JSONObject) throws -> Int? {
        switch members["priority"] {
        case nil, .null: return nil
        case let value?:
            let possible = Submission.Options.priorities
            guard let priority = value.int, possible.contains(priority) else {
                throw APIError.invalidRequest(
                    "priority",
                    "'priority' is \(value.text.excerpt); it must be a whole number from \(possible.lowerBound) to \(possible.upperBound). Higher runs first.")
            }
            return priority
        }
    }

    /// Only what is known to be harmless passes: other values break ComfyUI's own routes or its worker (protocol section 13).
    private func extra(_ members: JSONObject) throws -> JSONObject {
        for (name, value) in members {
            switch (Name(name), value) {
            case ("api_key_comfy_org", .string), ("auth_token_comfy_org", .string): break
            case ("api_key_comfy_org", _), ("auth_token_comfy_org", _):
                throw APIError.invalidRequest("extra_data.\(name)", "'extra_data.\(name)' must be a string.")
            case ("extra_pnginfo", .object(let info)):
                if let workflow = info["workflow"], workflow.object == nil {
                    throw APIError.invalidRequest("extra_data.extra_pnginfo.workflow", "'extra_data.extra_pnginfo.workflow' must be an object.")
                }
            case ("extra_pnginfo", _): throw APIError.invalidRequest("extra_data.extra_pnginfo", "'extra_data.extra_pnginfo' must be an object.")
            default:
                throw APIError.invalidRequest(
                    "extra_data", "'extra_data.\(name.excerpt)' is not passed on; possible are api_key_comfy_org, auth_token_comfy_org and extra_pnginfo.")
            }
        }
        return members
    }
}

extension JSON {
    /// A text that looks like an object or a list of its own.
    fileprivate var holdsJSON: Bool {
        guard let first = string?.utf8.first(where: { !" \t\r\n".utf8.contains($0) }) else { return false }
        return first == UInt8(ascii: "{") || first == UInt8(ascii: "[")
    }
}
