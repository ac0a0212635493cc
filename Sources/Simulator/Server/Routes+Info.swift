import NIOHTTP1
import OrderedCollections
import OrderedJSON

/// What the server has and is (protocol section 3), and the front-end's routes as an empty installation answers them.
extension Router {
    static let infoRoutes: [Route] = [
        Route(.GET, "/features") { router, _, _ in .json(ServerInfo.features(router.configuration)) },
        Route(.GET, "/system_stats") { router, _, _ in .json(ServerInfo.systemStats(router.configuration)) },
        Route(.GET, "/object_info") { router, _, _ in
            let catalog = router.services.catalog
            return .json(
                .object(
                    JSONObject(
                        uniqueKeysWithValues: catalog.names.compactMap { name in
                            catalog.info(name, folders: router.services.folders).map { (name, $0) }
                        })))
        },
        Route(.GET, "/object_info/{}") { router, _, parameters in
            .json(.object(router.services.catalog.info(parameters[0], folders: router.services.folders).map { [parameters[0]: $0] } ?? [:]))
        },
        Route(.GET, "/embeddings") { _, _, _ in .json([]) },
        Route(.GET, "/extensions") { _, _, _ in .json([]) },
        Route(.GET, "/models") { router, _, _ in
            .json(.array(ServerInfo.modelFolders(router.configuration.compatibility).map(JSON.string)))
        },
        Route(.GET, "/models/{}") { router, _, parameters in
            guard ServerInfo.modelFolders(router.configuration.compatibility).contains(parameters[0]) else { return .empty(.notFound) }
            return .json(.array((parameters[0] == "checkpoints" ? router.configuration.checkpoints : []).map(JSON.string)))
        },
        Route(.GET, "/view_metadata/{}") { _, _, _ in .empty(.notFound) },
        Route(.GET, "/users") { _, _, _ in .json(["storage": "server", "migrated": false]) },
        Route(.GET, "/settings") { _, _, _ in .json([:]) },
        Route(.GET, "/userdata") { _, request, _ in
            guard let folder = request.value("dir"), !folder.isEmpty else { return .text("Directory not provided", status: .badRequest) }
            return .text("Directory not found", status: .notFound)
        },
        Route(.GET, "/i18n") { _, _, _ in .json([:]) },
        Route(.GET, "/node_replacements", since: .v0_25_0) { _, _, _ in .json([:]) },
        Route(.GET, "/internal/logs", mirrored: false) { router, _, _ in
            .json(
                .string(
                    router.logs.entries.compactMap { entry in
                        entry["t"]?.string.map { "\($0) - \(entry["m"]?.string ?? "")" }
                    }.joined()))
        },
        Route(.GET, "/internal/logs/raw", mirrored: false) { router, _, _ in
            .json(["entries": .array(router.logs.entries), "size": ["cols": 80, "rows": 24]])
        },
        Route(.PATCH, "/internal/logs/subscribe", mirrored: false) { router, request, _ in
            guard let body = request.json, let id = body["clientId"]?.string, let enabled = body["enabled"] else { throw UnexpectedBody() }
            router.logs.setFollowing(id, Coercion.isTruthy(enabled))
            return .empty()
        },
        // Switched off, as by default.
        Route(.GET, "/api/assets", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.POST, "/api/assets", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/api/assets/{}", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/api/assets/{}/content", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/api/assets/seed/status", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/api/assets/hash/{}", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/api/tags", mirrored: false, since: .v0_25_0) { _, _, _ in assetsDisabled },
        Route(.GET, "/assets", mirrored: false, since: .v0_25_0) { _, _, _ in .text("403: Forbidden", status: .forbidden) },
    ]

    private static let assetsDisabled = Reply.json(
        [
            "error": [
                "code": "SERVICE_DISABLED",
                "message": "Assets system is disabled. Start the server with --enable-assets to use this feature.", "details": [:],
            ]
        ], status: .serviceUnavailable)
}
