import Logging
import MicroHTTP
import ServiceLifecycle
import ServiceLifecycleTestKit
import Testing

@testable import API
@testable import Bridge
@testable import Jobs
@testable import TestSupport

/// What the head of a request decides.
@Suite(.timeLimit(.minutes(5))) struct RouterTests {
    private static let token = "correct-horse-battery-staple"
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func router(_ flags: [String] = ["--token", token], drain: Drain = Drain(keepsJobs: false, logger: logger)) throws -> Router {
        let done: Route.Endpoint = { _, _ in Response(status: 200, body: .empty) }
        let routes = [
            Route("GET", "/open", access: .open, done), Route("GET", "/jobs", done), Route("POST", "/jobs", body: .json, isWork: true, done),
            Route("POST", "/jobs/{id}/cancel", done), Route("POST", "/files", body: .form, isWork: true, done),
            Route("GET", "/files/{id}/content", access: .tokenOrSignature, done),
        ]
        let access = try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: flags, environment: [:])).access
        return Router(routes: routes, access: AccessGuard(access), drain: drain, bodyLimit: 1000, uploadLimit: 2000, logger: Self.logger)
    }

    /// How the body is taken, or the status of the answer.
    private func decision(_ admission: Admission) -> String {
        switch admission {
        case .answered(let response): "\(response.status)"
        case .admitted(let body, _): "\(body)"
        }
    }

    private static let known: HTTPHeaders = ["Host": "a", "Authorization": "Bearer \(token)"]
    private static func known(_ type: String) -> HTTPHeaders {
        var headers = known
        headers["Content-Type"] = type
        return headers
    }

    @Test(
        "Decided by the head",
        arguments: [
            ("POST", "/jobs", ["Host": "a"], "401"), ("POST", "/jobs", ["Authorization": "Bearer wrong"], "401"), ("POST", "/nothing", ["Host": "a"], "401"),
            ("POST", "/files", ["Content-Type": "multipart/form-data; boundary=x"], "401"), ("GET", "/files/1/content", ["Host": "a"], "401"),
            ("POST", "/jobs", ["Host": "a", "Origin": "https://evil.example", "Authorization": "Bearer \(token)"], "403"),
            ("POST", "/nothing", known, "404"), ("PUT", "/jobs", known, "405"), ("PUT", "/open", ["Host": "a"], "405"), ("OPTIONS", "/jobs", known, "204"),
            ("POST", "/files", known, "415"), ("POST", "/files", known("application/json"), "415"), ("POST", "/files", known("multipart/form-datas"), "415"),
            ("POST", "/files", known("multipart/mixed; boundary=x"), "415"),
            ("POST", "/jobs", known, "collected(limit: 1000)"), ("POST", "/files", known("Multipart/Form-Data; boundary=x"), "streamed(limit: 2000)"),
            ("GET", "/jobs", known, "ignored(limit: 65536)"), ("HEAD", "/jobs", known, "ignored(limit: 65536)"), ("POST", "/jobs/1/cancel", known, "ignored(limit: 65536)"),
            ("GET", "/open", ["Host": "a"], "ignored(limit: 65536)"),
        ] as [(String, String, HTTPHeaders, String)])
    func head(_ method: String, _ path: String, _ headers: HTTPHeaders, _ expected: String) throws {
        let admission = try router().admit(Request(method: method, path: path, headers: headers))
        #expect(decision(admission) == expected)
    }

    @Test func foreignHostsAndPreflights() throws {
        let router = try router(["--cors-origin", "https://app.example.com"])
        #expect(decision(router.admit(Request(method: "POST", path: "/jobs", headers: ["Host": "evil.example"]))) == "403")
        let preflight: HTTPHeaders = ["Host": "localhost", "Origin": "https://app.example.com", "Access-Control-Request-Method": "POST"]
        #expect(decision(router.admit(Request(method: "OPTIONS", path: "/jobs", headers: preflight))) == "204")
    }

    @Test("A bridge that stops takes no work, neither by its head nor when it began to stop while the body came") func drain() async throws {
        try await testGracefulShutdown { trigger in
            let drain = Drain(keepsJobs: false, logger: Self.logger)
            let router = try router(drain: drain)
            let request = Request(method: "POST", path: "/jobs", headers: Self.known)
            guard case .admitted(_, let respond) = router.admit(request) else {
                Issue.record("not admitted")
                return
            }
            trigger.triggerGracefulShutdown()
            await drain.run()
            #expect(decision(router.admit(request)) == "503")
            #expect(await respond(request).status == 503)
            #expect(decision(router.admit(Request(method: "GET", path: "/jobs", headers: Self.known))) == "ignored(limit: 65536)")
        }
    }

    @Test("Every answer has nosniff") func nosniff() async throws {
        let router = try router()
        for (method, path) in [("GET", "/open"), ("POST", "/jobs"), ("GET", "/nothing"), ("OPTIONS", "/open")] {
            #expect(await router.respond(to: Request(method: method, path: path, headers: Self.known)).headers.values("X-Content-Type-Options") == ["nosniff"])
        }
        #expect(router.response(to: .overloaded, headers: nil).headers.values("X-Content-Type-Options") == ["nosniff"])
    }
}
