import Foundation
import Logging
import Testing

@testable import API
@testable import Jobs
import Wording
@testable import TestSupport
@testable import Workers

@Suite struct RoutesTests {
    /// `METHOD /path` of everything under `paths:` in openapi.yaml; HEAD comes with every GET.
    private func documented() throws -> Set<String> {
        let file = URL(fileURLWithPath: #filePath).appendingPathComponent("../../../openapi.yaml").standardizedFileURL
        var routes: Set<String> = []
        var path = ""
        for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
            if let match = line.wholeMatch(of: #/  (/\S*):/#) { path = String(match.output.1) }
            if let match = line.wholeMatch(of: #/    (get|head|post|put|patch|delete|options):/#) { routes.insert("\(match.output.1.uppercased()) \(path)") }
        }
        return routes
    }

    @Test func theDocumentListsExactlyTheRoutes() async throws {
        let documented = try documented()
        try await withRoutes { routes in
            #expect(documented == Set(routes.map { "\($0.method) \($0.path)" }))
        }
    }

    /// A new route asks for a token unless it says otherwise; what says so is listed here as well.
    @Test func whatIsOpenIsMeantToBe() async throws {
        try await withRoutes { routes in
            func paths(_ access: Route.Access) -> Set<String> { Set(routes.filter { $0.access == access }.map { "\($0.method) \($0.path)" }) }
            #expect(
                Set(routes.filter(\.isWork).map { "\($0.method) \($0.path)" })
                    == ["POST /run", "POST /api/v2/jobs", "POST /api/v2/assets", "POST /api/v2/assets/from-hash"])
            #expect(paths(.open) == ["GET /openapi.yaml", "GET /", "GET /app.js", "GET /style.css"])
            #expect(paths(.probe) == ["GET /api/v2/health", "GET /readyz"])
            #expect(
                paths(.tokenOrSignature) == [
                    "GET /api/v2/jobs/{id}/events", "GET /api/v2/jobs/{id}/previews/{n}", "GET /api/v2/assets/{id}/content",
                ])
        }
    }
}

/// All routes, of a bridge without ComfyUIs.
func withRoutes(_ body: ([Route]) async throws -> Void) async throws {
    try await withAPI { try await body(Routes.all($0)) }
}
