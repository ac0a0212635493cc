import MicroHTTP

/// Every route of the bridge. openapi.yaml describes the same; a test compares the two.
package enum Routes {
    package static func all(_ api: API) -> [Route] {
        let run = RunEndpoint(api: api)
        let jobs = JobEndpoints(api: api)
        let assets = AssetEndpoints(api: api)
        let server = ServerEndpoints(api: api)
        return [
            Route("POST", "/run", body: .json, isWork: true, { try await run($0, $1) }),
            Route("POST", "/api/v2/jobs", body: .json, isWork: true, jobs.submit),
            Route("GET", "/api/v2/jobs", jobs.list),
            Route("GET", "/api/v2/jobs/{id}", jobs.get),
            Route("GET", "/api/v2/jobs/{id}/workflow", jobs.workflow),
            Route("POST", "/api/v2/jobs/{id}/cancel", jobs.cancel),
            Route("GET", "/api/v2/jobs/{id}/events", access: .tokenOrSignature, jobs.events),
            Route("GET", "/api/v2/jobs/{id}/preview", jobs.latestPreview),
            Route("GET", "/api/v2/jobs/{id}/previews/{n}", access: .tokenOrSignature, jobs.preview),
            Route("GET", "/api/v2/jobs/{id}/why", jobs.why),
            Route("POST", "/api/v2/assets", body: .form, isWork: true, assets.upload),
            Route("POST", "/api/v2/assets/from-hash", body: .json, isWork: true, assets.fromHash),
            Route("HEAD", "/api/v2/assets/by-hash/{hash}", assets.lookUp),
            Route("GET", "/api/v2/assets/{id}", assets.get),
            Route("DELETE", "/api/v2/assets/{id}", assets.delete),
            Route("GET", "/api/v2/assets/{id}/content", access: .tokenOrSignature, assets.content),
            Route("GET", "/api/v2/health", access: .probe, server.health),
            Route("GET", "/readyz", access: .probe, server.readiness),
            Route("GET", "/metrics", server.metrics),
            Route("GET", "/openapi.yaml", access: .open, server.openAPI),
            Route("GET", "/", access: .open, server.page),
            Route("GET", "/app.js", access: .open, server.script),
            Route("GET", "/style.css", access: .open, server.styleSheet),
        ]
    }
}
