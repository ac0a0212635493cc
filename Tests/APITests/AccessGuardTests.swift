import Logging
import MicroHTTP
import OrderedCollections
import OrderedJSON
import Testing

@testable import API
@testable import Bridge
@testable import Jobs
@testable import TestSupport

/// The router with its guard, without a bridge behind it.
@Suite struct AccessGuardTests {
    private static let token = "correct-horse-battery-staple"

    private func configuration(_ flags: [String]) throws -> AccessConfiguration {
        try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: flags, environment: [:])).access
    }

    private func respond(_ flags: [String], _ method: String, _ path: String, query: [(String, String)] = [], _ headers: HTTPHeaders) async throws -> Response {
        let done: Route.Endpoint = { _, _ in Response(status: 200, headers: ["Vary": "Accept"], body: .bytes(Array("done".utf8))) }
        let routes = [
            Route("GET", "/open", access: .open, done), Route("GET", "/probe", access: .probe, done), Route("GET", "/thing", done), Route("DELETE", "/thing", done), Route("POST", "/things", done),
            Route("GET", "/things/{id}/content", access: .tokenOrSignature, done), Route("POST", "/things/{id}/content", access: .tokenOrSignature, done),
            Route("HEAD", "/only-head", done),
        ]
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let router = Router(routes: routes, access: AccessGuard(try configuration(flags)), drain: Drain(keepsJobs: false, logger: logger), logger: logger)
        return await router.respond(to: Request(method: method, path: path, query: query.map { (name: $0.0, value: $0.1) }, headers: headers))
    }

    private func code(_ response: Response) throws -> String? {
        guard case .bytes(let bytes) = response.body, response.status != 200 else { return nil }
        return try JSON(parsing: bytes)["error"]?["code"]?.string
    }

    // MARK: Host

    @Test(
        "Hosts that a bridge without tokens answers to",
        arguments: [
            "127.0.0.1", "127.0.0.1:8189", "192.168.1.20:8189", "[::1]:8189", "[fe80::1]", "localhost", "LOCALHOST:80", "localhost.", "comfyui:8189", "app.localhost",
            "tower.local", "tower.local.:8189", "svc.cluster.internal", "bridge.example.com", "BRIDGE.example.com.:8189", "public.example.com", "my-pc",
        ])
    func trustedHosts(_ host: String) async throws {
        let flags = ["--allowed-host", "Bridge.Example.com", "--public-url", "https://public.example.com/comfy/"]
        #expect(try await respond(flags, "GET", "/thing", ["Host": host]).status == 200)
    }

    @Test(
        "Hosts that it does not answer to, on open routes neither",
        arguments: [
            "evil.example", "evil.example:8189", "127.0.0.1.evil.example", "localhost.evil.example", "evil.bridge.example.com", "evil.xlocal", "local.evil.example",
            "1.2.3", "127.1", "", "a b", "evil.example:x", "::1", "user@localhost",
        ])
    func foreignHosts(_ host: String) async throws {
        for path in ["/open", "/thing", "/nothing"] {
            let response = try await respond(["--allowed-host", "bridge.example.com"], "GET", path, ["Host": host])
            #expect(response.status == 403)
            #expect(try code(response) == "forbidden")
        }
    }

    @Test func withATokenAnyHostIsAnswered() async throws {
        let headers: HTTPHeaders = ["Host": "bridge.example.com", "Authorization": "Bearer \(Self.token)"]
        #expect(try await respond(["--token", Self.token], "GET", "/thing", headers).status == 200)
    }

    @Test func withoutHostThereIsNoBrowser() async throws {
        #expect(try await respond([], "GET", "/thing", [:]).status == 200)
    }

    @Test("Probes call the bridge as they like", arguments: ["comfy-bridge.prod.svc", "10-0-0-1.prod.pod:8189", "evil.example", "a b", ""])
    func probes(_ host: String) async throws {
        #expect(try await respond([], "GET", "/probe", ["Host": host]).status == 200)
        #expect(try await respond([], "HEAD", "/probe", ["Host": host]).status == 200)
        #expect(try await respond([], "GET", "/open", ["Host": host]).status == 403)
        // But they are no pages.
        #expect(try await respond([], "GET", "/probe", ["Host": host, "Origin": "http://other.example"]).status == 403)
    }

    @Test func aProbeByAForeignNameIsToldNoMoreThanAStranger() throws {
        func isInsider(_ flags: [String], _ headers: HTTPHeaders) throws -> Bool {
            AccessGuard(try configuration(flags)).isInsider(Request(method: "GET", path: "/readyz", headers: headers))
        }
        #expect(try isInsider([], ["Host": "localhost:8189"]))
        #expect(try isInsider([], [:]))
        #expect(try !isInsider([], ["Host": "comfy-bridge.prod.svc"]))
        #expect(try isInsider(["--allowed-host", "comfy-bridge.prod.svc"], ["Host": "comfy-bridge.prod.svc"]))
        #expect(try !isInsider(["--token", Self.token], ["Host": "localhost"]))
        #expect(try isInsider(["--token", Self.token], ["Host": "comfy-bridge.prod.svc", "Authorization": "Bearer \(Self.token)"]))
    }

    // MARK: Origin

    @Test(
        "Foreign origins",
        arguments: [
            "http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8189", "https://127.0.0.1", "", "http://127.0.0.1:8189/", "file://",
            "http://127.0.0.1:8189, http://evil.example", "https://app.example.com:8443", "https://app.example.com.evil.example", "http://app.example.com",
        ])
    func foreignOrigins(_ origin: String) async throws {
        for (method, path) in [("GET", "/open"), ("GET", "/thing"), ("POST", "/things"), ("OPTIONS", "/things")] {
            let headers: HTTPHeaders = [
                "Host": "127.0.0.1:8189", "Origin": origin, "Authorization": "Bearer \(Self.token)", "Access-Control-Request-Method": "POST",
            ]
            for flags in [["--token", Self.token], []] {
                let response = try await respond(flags + ["--cors-origin", "https://app.example.com"], method, path, headers)
                #expect(response.status == 403)
                #expect(try code(response) == "forbidden")
                #expect(response.headers["Access-Control-Allow-Origin"] == nil)
                #expect(response.headers["Access-Control-Allow-Credentials"] == nil)
                #expect(response.headers["Vary"] == "Origin")
            }
        }
    }

    @Test func twoOriginsAreNone() async throws {
        var headers: HTTPHeaders = ["Host": "localhost", "Origin": "http://localhost"]
        headers.add(name: "Origin", value: "http://evil.example")
        #expect(try await respond([], "POST", "/things", headers).status == 403)
    }

    @Test(
        "The bridge's own pages need no list",
        arguments: [
            ("127.0.0.1:8189", "http://127.0.0.1:8189"), ("localhost", "https://localhost"), ("[::1]:8189", "http://[::1]:8189"),
            // A proxy changed Host.
            ("127.0.0.1:8189", "https://public.example.com"),
        ])
    func ownOrigins(_ host: String, _ origin: String) async throws {
        let response = try await respond(["--public-url", "https://public.example.com"], "POST", "/things", ["Host": host, "Origin": origin])
        #expect(response.status == 200)
        #expect(response.headers["Access-Control-Allow-Origin"] == nil)
        #expect(response.headers["Vary"] == "Accept")
    }

    // MARK: CORS

    @Test(
        "Allowed origins may read every answer",
        arguments: [
            (["--cors-origin", "https://app.example.com", "--cors-origin", "http://localhost:5173"], "http://localhost:5173"),
            (["--cors-origin", "HTTPS://App.example.com:443"], "https://app.example.com"), (["--cors-origin", "*"], "https://any.example"), (["--cors-origin", "*"], "null"),
        ])
    func allowedOrigins(_ flags: [String], _ origin: String) async throws {
        let requests = [("GET", "/open", 200), ("GET", "/thing", 200), ("POST", "/thing", 405), ("GET", "/nothing", 404), ("GET", "/thing?", 404)]
        for (method, path, status) in requests {
            let response = try await respond(flags, method, path, ["Host": "127.0.0.1:8189", "Origin": origin])
            #expect(response.status == status)
            #expect(response.headers["Access-Control-Allow-Origin"] == origin)
            #expect(response.headers["Access-Control-Expose-Headers"]?.contains("Comfy-Job-Id, Location, Retry-After") == true)
            // A page may bring the browser's credentials if it is named; all pages never.
            #expect(response.headers["Access-Control-Allow-Credentials"] == (flags.contains("*") ? nil : "true"))
            #expect(response.headers.values("Vary").contains("Origin"))
        }
        let refused = try await respond(flags + ["--token", Self.token], "POST", "/things", ["Host": "127.0.0.1:8189", "Origin": origin])
        #expect(refused.status == 401)
        #expect(refused.headers["Access-Control-Allow-Origin"] == origin)
        #expect(refused.headers["Access-Control-Allow-Credentials"] == (flags.contains("*") ? nil : "true"))
        // And one that is named keeps what it may when all others come in as well.
        let both = try await respond(flags + ["--cors-origin", "*"], "GET", "/thing", ["Host": "127.0.0.1:8189", "Origin": origin])
        #expect(both.headers["Access-Control-Allow-Credentials"] == (flags.contains("*") ? nil : "true"))
        // What a cache keeps of a request without Origin must not be given to a page.
        #expect(try await respond(flags, "GET", "/thing", ["Host": "localhost"]).headers.values("Vary") == ["Accept", "Origin"])
    }

    @Test func preflightsNeedNoToken() async throws {
        let asked: HTTPHeaders = [
            "Host": "127.0.0.1:8189", "Origin": "https://app.example.com", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, Content-Type,x-evil, last-event-id, idempotency-key",
            "Access-Control-Request-Private-Network": "true",
        ]
        for path in ["/things", "/thing", "/nothing"] {
            let response = try await respond(["--token", Self.token, "--cors-origin", "https://app.example.com"], "OPTIONS", path, asked)
            #expect(response.status == 204)
            #expect(response.headers["Access-Control-Allow-Origin"] == "https://app.example.com")
            #expect(response.headers["Access-Control-Allow-Credentials"] == "true")
            #expect(response.headers["Access-Control-Allow-Methods"] == "DELETE, GET, HEAD, POST")
            #expect(response.headers["Access-Control-Allow-Headers"] == "authorization, Content-Type, last-event-id, idempotency-key")
            #expect(response.headers["Access-Control-Allow-Private-Network"] == "true")
            #expect(response.headers["Access-Control-Max-Age"].flatMap { Int($0) } ?? 0 > 0)
        }
        let plain: HTTPHeaders = ["Host": "localhost", "Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"]
        let response = try await respond(["--cors-origin", "*"], "OPTIONS", "/thing", plain)
        #expect(response.status == 204)
        #expect(response.headers["Access-Control-Allow-Headers"] == nil)
        #expect(response.headers["Access-Control-Allow-Credentials"] == nil)
        #expect(response.headers["Access-Control-Allow-Private-Network"] == nil)
    }

    @Test func optionsWithoutOriginListsTheMethods() async throws {
        let flags = ["--token", Self.token]
        let headers: HTTPHeaders = ["Host": "localhost", "Authorization": "Bearer \(Self.token)"]
        #expect(try await respond(flags, "OPTIONS", "/thing", headers).headers["Allow"] == "GET, HEAD, DELETE, OPTIONS")
        #expect(try await respond(flags, "OPTIONS", "/thing", ["Host": "localhost"]).status == 401)
        #expect(try await respond(flags, "OPTIONS", "/open", ["Host": "localhost"]).status == 204)
    }

    // MARK: Tokens

    @Test(
        "Authorization",
        arguments: [
            (["Bearer correct-horse-battery-staple"], true), (["bearer correct-horse-battery-staple"], true), (["BEARER   second-token-of-the-test= "], true),
            ([], false), ([""], false), (["Bearer"], false), (["Bearer "], false), (["correct-horse-battery-staple"], false), (["Basic correct-horse-battery-staple"], false),
            (["Bearer correct-horse-battery-stapl"], false), (["Bearer correct-horse-battery-staple1"], false), (["Bearer Correct-horse-battery-staple"], false),
            (["Bearer correct-horse-battery-staple second-token-of-the-test="], false), (["Bearer \"correct-horse-battery-staple\""], false),
            (["Bearercorrect-horse-battery-staple"], false),
            // Which of two would count is nobody's guess.
            (["Bearer correct-horse-battery-staple", "Bearer second-token-of-the-test="], false),
        ])
    func authorization(_ fields: [String], _ isRight: Bool) async throws {
        var headers: HTTPHeaders = ["Host": "localhost"]
        for field in fields { headers.add(name: "Authorization", value: field) }
        for (method, path) in [("GET", "/thing"), ("HEAD", "/thing"), ("DELETE", "/thing"), ("POST", "/things"), ("GET", "/things/1/content"), ("HEAD", "/only-head")] {
            let response = try await respond(["--token", Self.token, "--token", "second-token-of-the-test="], method, path, headers)
            #expect(response.status == (isRight ? 200 : 401))
            #expect(response.headers["WWW-Authenticate"] == (isRight ? nil : "Bearer"))
            #expect(try code(response) == (isRight ? nil : "unauthorized"))
        }
        #expect(try await respond(["--token", Self.token], "GET", "/open", headers).status == 200)
    }

    @Test("What is not there is told to callers with a token only", arguments: [("GET", "/nothing", 404), ("POST", "/thing", 405), ("GET", "/only-head", 405)])
    func unknown(_ method: String, _ path: String, _ status: Int) async throws {
        #expect(try await respond(["--token", Self.token], method, path, ["Host": "localhost"]).status == 401)
        #expect(try await respond(["--token", Self.token], method, path, ["Host": "localhost", "Authorization": "Bearer \(Self.token)"]).status == status)
        #expect(try await respond([], method, path, ["Host": "localhost"]).status == status)
        #expect(try await respond(["--token", Self.token], "POST", "/open", ["Host": "localhost"]).status == 405)
    }

    // MARK: Signatures

    @Test func signaturesAreForReadingWhatTakesThem() async throws {
        let flags = ["--token", Self.token]
        let signer = try #require(URLSigner(tokens: [Self.token], lifetime: 3600))
        func status(_ method: String, _ path: String, signed: String, expires: Int = .max, _ flags: [String]? = nil) async throws -> Int {
            let pairs = signer.query(for: signed, expires: expires).split(separator: "&").map { $0.split(separator: "=") }
            let query = pairs.map { (String($0[0]), String($0[1])) } + [("previews", "url")]
            return try await respond(flags ?? ["--token", Self.token], method, path, query: query, ["Host": "localhost"]).status
        }
        let path = "/things/1/content"
        #expect(try await status("GET", path, signed: path) == 200)
        #expect(try await status("HEAD", path, signed: path) == 200)
        #expect(try await status("POST", path, signed: path) == 401)
        #expect(try await status("GET", path, signed: "/things/2/content") == 401)
        #expect(try await status("GET", path, signed: path, expires: 1_000_000_000) == 401)
        #expect(try await status("GET", path, signed: path, flags + ["--token", "another-token-of-the-test"]) == 401)
        #expect(try await status("GET", "/thing", signed: "/thing") == 401)
        #expect(try await status("DELETE", "/thing", signed: "/thing") == 401)
        // A token is enough, and without tokens all may read.
        let wrong = [("expires", "1"), ("signature", "0")]
        let headers: HTTPHeaders = ["Host": "localhost", "Authorization": "Bearer \(Self.token)"]
        #expect(try await respond(flags, "GET", path, query: wrong, headers).status == 200)
        #expect(try await respond([], "GET", path, query: wrong, ["Host": "localhost"]).status == 200)
        #expect(try await respond(flags, "GET", path, query: [wrong[0]], ["Host": "localhost"]).status == 401)
    }

    @Test(
        "Options stand before and after a signature, and after a second question mark",
        arguments: [
            "previews=url&SIGNED", "SIGNED&previews=url", "SIGNED?previews=url", "SIGNED?previews=url&native=1", "native=1&SIGNED?previews=url", "SIGNED?previews=url?x",
            "last_event_id=3&previews=url&SIGNED&native=1", "signed_events=0&SIGNED?previews=url",
        ])
    func optionsOfSignedURLs(_ text: String) async throws {
        let path = "/things/1/content"
        let signer = try #require(URLSigner(tokens: [Self.token], lifetime: 3600))
        let signed = signer.query(for: path, expires: .max)
        // As libmicrohttpd cuts a query.
        let query = text.replacing("SIGNED", with: signed).split(separator: "&").map { parameter in
            let parts = parameter.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            return (parts[0], parts[1])
        }
        #expect(try await respond(["--token", Self.token], "GET", path, query: query, ["Host": "localhost"]).status == 200)
        let apart = URLSigner.withOptionsApart(query.map { (name: $0.0, value: $0.1) })
        #expect(apart.first { $0.name == "previews" }?.value.hasPrefix("url") == true)
        #expect(apart.contains { $0.name == "native" } == text.contains("native"))
        // Nothing but the options is free.
        for (index, parameter) in query.enumerated() where ["expires", "signature"].contains(parameter.0) {
            var changed = query
            changed[index].1 = "0" + parameter.1
            #expect(try await respond(["--token", Self.token], "GET", path, query: changed, ["Host": "localhost"]).status == 401)
            changed.remove(at: index)
            #expect(try await respond(["--token", Self.token], "GET", path, query: changed, ["Host": "localhost"]).status == 401)
        }
    }

    // MARK: Below a path

    @Test(
        "A proxy may take the path of --public-url away, or leave it",
        arguments: [
            ("/comfy/thing", 200), ("/thing", 200), ("/comfy/nothing", 404), ("/comfythings/1/content", 404), ("/comfy/comfy/thing", 404), ("/comfy", 308), ("/comfy/open", 200),
            ("/Comfy/thing", 404),
        ])
    func mount(_ path: String, _ status: Int) async throws {
        let done: Route.Endpoint = { request, _ in Response(status: 200, headers: ["Path": request.path], body: .empty) }
        let routes = [Route("GET", "/open", access: .open, done), Route("GET", "/thing", done), Route("POST", "/things", body: .form, done)]
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let router = Router(routes: routes, access: AccessGuard(try configuration([])), mount: "/comfy", drain: Drain(keepsJobs: false, logger: logger), logger: logger)
        let response = await router.respond(to: Request(path: path, headers: ["Host": "localhost"]))
        #expect(response.status == status)
        #expect(response.headers["Location"] == (status == 308 ? "/comfy/" : nil))
        if status == 200 { #expect(response.headers["Path"]?.hasPrefix("/comfy") == false) }
        for path in ["/comfy/things", "/things"] {
            let head = Request(method: "POST", path: path, headers: ["Host": "localhost", "Content-Type": "multipart/form-data; boundary=b"])
            guard case .admitted(body: .streamed, respond: _) = router.admit(head) else { Issue.record("\(path) takes no form"); continue }
        }
    }

    @Test func signedEventsIsAFlag() async throws {
        #expect(try await respond([], "POST", "/things", query: [("signed_events", "maybe")], ["Host": "localhost"]).status == 400)
        #expect(try await respond([], "POST", "/things", query: [("signed_events", "1")], ["Host": "localhost"]).status == 200)
    }
}
