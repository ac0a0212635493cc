import MicroHTTP

/// Every route of the bridge. openapi.yaml describes the same; a test compares the two.
enum Routes {
    static func all(_ api: API) -> [Route] {
        let run = RunEndpoint(api: api)
        let jobs = JobEndpoints(api: api)
        let assets = AssetEndpoints(api: api)
        let server = ServerEndpoints(api: api)
        return [
            Route("POST", "/run", { try await run($0, $1) }),
            Route("POST", "/api/v2/jobs", jobs.submit),
            Route("GET", "/api/v2/jobs", jobs.list),
            Route("GET", "/api/v2/jobs/{id}", jobs.get),
            Route("GET", "/api/v2/jobs/{id}/workflow", jobs.workflow),
            Route("POST", "/api/v2/jobs/{id}/cancel", jobs.cancel),
            Route("GET", "/api/v2/jobs/{id}/events", jobs.events),
            Route("GET", "/api/v2/jobs/{id}/preview", jobs.latestPreview),
            Route("GET", "/api/v2/jobs/{id}/previews/{n}", jobs.preview),
            Route("GET", "/api/v2/assets/{id}", assets.get),
            Route("GET", "/api/v2/assets/{id}/content", assets.content),
            Route("GET", "/api/v2/health", server.health),
            Route("GET", "/readyz", server.readiness),
            Route("GET", "/openapi.yaml", server.openAPI),
            Route("GET", "/", server.page),
            Route("GET", "/app.js", server.script),
            Route("GET", "/style.css", server.styleSheet),
        ]
    }
}
