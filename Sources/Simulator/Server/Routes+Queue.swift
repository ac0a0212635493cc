import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// Queue, history, interrupt, free (protocol sections 3 and 11).
extension Router {
    static let queueRoutes: [Route] = [
        Route(.GET, "/queue") { router, _, _ in
            let (running, pending) = router.queue.snapshot()
            return .json(["queue_running": .array(running.map { $0.item() }), "queue_pending": .array(pending.map { $0.item() })])
        },
        Route(.POST, "/queue") { router, request, _ in
            guard let body = request.json else { throw UnexpectedBody() }
            if body["clear"].map(Coercion.isTruthy) ?? false { router.queue.wipe() }
            for id in body["delete"]?.array ?? [] { if let id = id.string { try router.queue.delete(id) } }
            return .empty()
        },
        Route(.POST, "/interrupt") { router, request, _ in
            if let id = request.json?["prompt_id"], Coercion.isTruthy(id) {
                guard let id = id.string, router.queue.runningID == id else { return .empty() }
            }
            router.services.control.interrupt()
            return .empty()
        },
        Route(.POST, "/free") { router, request, _ in
            guard let body = request.json else { throw UnexpectedBody() }
            if body["free_memory"].map(Coercion.isTruthy) ?? false { router.queue.requestFree() }
            return .empty()
        },
        Route(.GET, "/history") { router, request, _ in try router.history(request) },
        Route(.GET, "/history/{}") { router, _, parameters in
            .json(.object(router.queue.history(parameters[0]).map { [parameters[0]: $0.json] } ?? [:]))
        },
        Route(.POST, "/history") { router, request, _ in
            guard let body = request.json else { throw UnexpectedBody() }
            if body["clear"].map(Coercion.isTruthy) ?? false { router.queue.clearHistory() }
            for id in body["delete"]?.array ?? [] { if let id = id.string { router.queue.deleteHistory(id) } }
            return .empty()
        },
    ]

    /// `max_items` alone counts from the newest, with `offset` from the oldest.
    private func history(_ request: Request) throws -> Reply {
        var entries = queue.history()[...]
        let limit = try request.value("max_items").map(Self.integer)
        if let offset = try request.value("offset").map(Self.integer), offset >= 0 {
            entries = entries.dropFirst(offset)
            if let limit { entries = entries.prefix(max(0, limit)) }
        } else if let limit {
            entries = entries.suffix(max(0, limit))
        }
        return .json(.object(JSONObject(entries.map { ($0.prompt.id, $0.json) }) { $1 }))
    }

    private static func integer(_ text: String) throws -> Int {
        guard let value = Int(text) else { throw UnexpectedBody() }
        return value
    }
}
