import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// The jobs API: in 0.25 only to be read, with cancel from 0.33 on (protocol section 3.3). By the way prefixes are made it exists below `/api/api` too, and not without.
extension Router {
    static let jobRoutes: [Route] = [
        Route(.GET, "/api/jobs", since: .v0_25_0) { router, request, _ in try router.jobs(request) },
        Route(.GET, "/api/jobs/{}", since: .v0_25_0) { router, _, parameters in
            guard let job = router.allJobs().first(where: { $0.prompt.id == parameters[0] }) else {
                return .json(["error": "Job not found"], status: .notFound)
            }
            return .json(try job.json(isWhole: true, router.compatibility))
        },
        Route(.POST, "/api/jobs/{}/cancel", since: .v0_33_0) { router, _, parameters in
            let isCancelled = try router.queue.cancel(parameters[0]) { router.services.control.interrupt() }
            return .json(["cancelled": JSON(isCancelled)])
        },
        Route(.POST, "/api/jobs/cancel", since: .v0_33_0) { router, request, _ in
            guard let body = request.json else { return .json(["error": "Request body must be valid JSON"], status: .badRequest) }
            guard let ids = body["job_ids"]?.array else { return .json(["error": "job_ids must be a list"], status: .badRequest) }
            let invalid = ids.filter { !Router.isPromptID($0) }
            guard invalid.isEmpty else {
                return .json(
                    ["error": "job_ids contains invalid id(s)", "invalid_ids": .array(invalid.map { .string(PythonText.str($0)) })], status: .badRequest)
            }
            var isAny = false
            for id in ids.compactMap(\.string) {
                let isCancelled = try router.queue.cancel(id) { router.services.control.interrupt() }
                isAny = isAny || isCancelled
            }
            return .json(["cancelled": JSON(isAny)])
        },
    ]

    private func allJobs() -> [Job] {
        let (running, pending, history) = queue.everything()
        return running.map { Job(prompt: $0, status: "in_progress", entry: nil) }
            + pending.map { Job(prompt: $0, status: "pending", entry: nil) }
            + history.map { entry in
                let status =
                    switch entry.outcome {
                    case .success: "completed"
                    case .error: "failed"
                    case .interrupted: "cancelled"
                    }
                return Job(prompt: entry.prompt, status: status, entry: entry)
            }
    }

    private func jobs(_ request: Request) throws -> Reply {
        func refuse(_ message: String) -> Reply { .json(["error": .string(message)], status: .badRequest) }
        var jobs = allJobs()
        if let filter = request.value("status"), !filter.isEmpty {
            let wanted = filter.split(separator: ",").map { $0.filter { $0 != " " }.lowercased() }
            let known = ["pending", "in_progress", "completed", "failed", "cancelled"]
            let wrong = wanted.filter { !known.contains($0) }
            guard wrong.isEmpty else {
                return refuse("Invalid status value(s): \(wrong.joined(separator: ", ")). Valid values: \(known.joined(separator: ", "))")
            }
            jobs = jobs.filter { wanted.contains($0.status) }
        }
        let sortBy = request.value("sort_by")?.lowercased() ?? "created_at", order = request.value("sort_order")?.lowercased() ?? "desc"
        guard sortBy == "created_at" || sortBy == "execution_duration" else {
            return refuse("sort_by must be 'created_at' or 'execution_duration'")
        }
        guard order == "asc" || order == "desc" else { return refuse("sort_order must be 'asc' or 'desc'") }
        var limit: Int?
        if let text = request.value("limit") {
            guard let value = Int(text) else { return refuse("limit must be an integer") }
            guard value > 0 else { return refuse("limit must be a positive integer") }
            limit = value
        }
        var offset = 0
        if let text = request.value("offset") {
            guard let value = Int(text) else { return refuse("offset must be an integer") }
            offset = max(0, value)
        }
        let shown = try jobs.map { job in (json: try job.json(isWhole: false, compatibility), key: sortBy == "created_at" ? job.createTime : job.duration)
        }
        .filter { job in request.value("workflow_id").map { $0.isEmpty || job.json["workflow_id"]?.string == $0 } ?? true }
        .sorted { order == "asc" ? $0.key < $1.key : $0.key > $1.key }
        let page = shown.dropFirst(offset).prefix(limit ?? shown.count)
        return .json([
            "jobs": .array(page.map(\.json)),
            "pagination": [
                "offset": JSON(offset), "limit": .optional(limit), "total": JSON(shown.count),
                "has_more": JSON(offset + page.count < shown.count),
            ],
        ])
    }
}

private struct Job {
    let prompt: Prompt
    let status: String
    /// Nil while it is pending or running.
    let entry: HistoryEntry?

    var createTime: Int { prompt.extraData["create_time"]?.int ?? 0 }
    var start: Int? { entry?.messages.first?.data["timestamp"]?.int }
    var end: Int? { entry?.messages.last?.data["timestamp"]?.int }
    var duration: Int { (end ?? 0) - (start ?? 0) }

    /// - Throws: for an odd `extra_pnginfo`, over which the list of everybody fails (protocol section 13).
    func json(isWhole: Bool, _ compatibility: ComfySimulator.Compatibility) throws -> JSON {
        let workflowID = try workflowID()
        var json: JSONObject = [
            "id": .string(prompt.id), "status": .string(status), "priority": prompt.priority.json, "create_time": JSON(createTime),
        ]
        if let start { json["execution_start_time"] = JSON(start) }
        if let end { json["execution_end_time"] = JSON(end) }
        if let error = entry?.messages.last(where: { $0.name == "execution_error" }) { json["execution_error"] = .object(error.data) }
        let items = outputItems()
        if compatibility < .v0_33_0 {
            json["outputs_count"] = JSON(items.count)
            if let preview = items.first(where: { $0["type"] == "output" }) ?? items.first { json["preview_output"] = .object(preview) }
        } else {
            let files = items.filter { $0["content"] == nil }
            json["outputs_count"] = JSON(files.count)
            json["previewable_outputs_count"] = JSON(files.count(where: \.isPreviewable))
            let pictures = files.filter { $0.isPreviewable && !$0.isText }
            let preview =
                pictures.first { $0["type"] == "output" } ?? pictures.first ?? files.first { $0.isPreviewable } ?? items.first { $0["content"] != nil }
            if let preview { json["preview_output"] = .object(preview) }
        }
        if let workflowID { json["workflow_id"] = .string(workflowID) }
        if isWhole, let entry {
            json["outputs"] = compatibility < .v0_33_0 ? entry.outputs : Self.withFilesForPaths(entry.outputs)
            json["execution_status"] = entry.status
            json["workflow"] = ["prompt": .object(prompt.graph), "extra_data": .object(prompt.extraData)]
        }
        return .object(json)
    }

    private func workflowID() throws -> String? {
        guard let info = prompt.extraData["extra_pnginfo"] else { return nil }
        guard let members = info.object else { throw UnexpectedBody() }
        guard let workflow = members["workflow"] else { return nil }
        guard let workflow = workflow.object else { throw UnexpectedBody() }
        return workflow["id"].map(PythonText.str)
    }

    /// Files and texts in order, each with the node and list that it comes from.
    private func outputItems() -> [JSONObject] {
        (entry?.outputs.object ?? [:]).flatMap { node, output in
            (output.object ?? [:]).flatMap { media, items -> [JSONObject] in
                guard media != "animated" else { return [] }
                return (items.array ?? []).compactMap { item in
                    var shown: JSONObject? = item.object ?? Self.file(forPath: item)
                    if media == "text", shown == nil, let text = item.string { shown = ["content": .string(text)] }
                    shown?["nodeId"] = .string(node)
                    if shown?["mediaType"] == nil { shown?["mediaType"] = .string(media) }
                    return shown
                }
            }
        }
    }

    /// A string that ends like a 3D file counts as one, whose folder then stands where nobody looks for it.
    private static func file(forPath item: JSON) -> JSONObject? {
        guard let path = item.string, ["obj", "fbx", "gltf", "glb", "usdz"].contains(where: { path.lowercased().hasSuffix("." + $0) }) else { return nil }
        return ["filename": .string(path), "type": "output", "subfolder": "", "mediaType": "3d"]
    }

    private static func withFilesForPaths(_ outputs: JSON) -> JSON {
        guard let nodes = outputs.object else { return outputs }
        return .object(
            nodes.mapValues { output in
                guard let lists = output.object else { return output }
                return .object(
                    JSONObject(
                        uniqueKeysWithValues: lists.map { media, items in
                            guard media != "animated", let items = items.array else { return (media, items) }
                            return (media, .array(items.filter { !$0.isNull }.map { file(forPath: $0).map(JSON.object) ?? $0 }))
                        }))
            })
    }
}

extension JSONObject {
    private func hasExtension(_ extensions: [String]) -> Bool {
        let name = self["filename"]?.string?.lowercased() ?? ""
        return extensions.contains { name.hasSuffix("." + $0) }
    }

    fileprivate var isText: Bool { self["mediaType"] == "text" || hasExtension(["txt", "md", "json"]) }

    fileprivate var isPreviewable: Bool {
        let format = self["format"]?.string ?? ""
        return ["images", "video", "audio", "3d", "text"].contains(self["mediaType"]?.string) || format.hasPrefix("video/") || format.hasPrefix("audio/")
            || hasExtension(["obj", "fbx", "gltf", "glb", "usdz", "txt", "md", "json"])
    }
}
