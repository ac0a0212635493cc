import ComfyUI
import Foundation
import MicroHTTP
import Testing

@testable import Bridge

@Suite struct ConfigurationTests {
    private func configuration(_ arguments: [String], _ environment: [String: String] = [:]) throws -> BridgeConfiguration {
        try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: arguments, environment: environment))
    }

    @Test func defaultsAreAsTheHelpSays() throws {
        let configuration = try configuration([])
        #expect(configuration.http.port == 8189)
        #expect(configuration.http.host == "127.0.0.1")
        #expect(configuration.jobs.queueLimit == 256)
        #expect(configuration.workers.map(\.endpoint.description) == ["http://127.0.0.1:8188"])
        #expect(configuration.workers[0].jobTimeout == nil)
        #expect(configuration.sdkHold == .seconds(5))
    }

    @Test func flagsWinOverTheEnvironment() throws {
        let configuration = try configuration(
            ["--queue-limit", "7", "--comfyui", "http://a:1", "--comfyui", "http://b:2/x", "--job-timeout=2.5"],
            ["COMFY_BRIDGE_QUEUE_LIMIT": "9", "COMFY_BRIDGE_PORT": "1234", "COMFY_BRIDGE_HEARTBEAT": "3"])
        #expect(configuration.jobs.queueLimit == 7)
        #expect(configuration.http.port == 1234)
        #expect(configuration.heartbeat == .seconds(3))
        #expect(configuration.workers.map(\.endpoint.description) == ["http://a:1", "http://b:2/x"])
        #expect(configuration.workers[1].jobTimeout == .seconds(2.5))
    }

    @Test func severalComfyUIsFromTheEnvironment() throws {
        #expect(try configuration([], ["COMFY_BRIDGE_COMFYUI": "http://a:1,http://b:2"]).workers.count == 2)
    }

    @Test("What is wrong is said with the flag's name", arguments: [
        (["--nope", "1"], "--nope"), (["stray"], "stray"), (["--port"], "--port"), (["--port", "--host", "x"], "--port"), (["--port", "70000"], "--port"),
        (["--port", "x"], "--port"), (["--comfyui", "ftp://x"], "--comfyui"), (["--heartbeat", "0"], "--heartbeat"), (["--retries", "-1"], "--retries"),
        (["--sdk-hold", "30"], "--sdk-hold"),
        (["--preview-method", "best"], "--preview-method"),
        (["--port", ""], "--port"), (["--port="], "--port"), (["--allow-insecure-bind", "yes"], "yes"), (["--allow-insecure-bind=perhaps"], "--allow-insecure-bind"),
        (["--url-lifetime", "0"], "--url-lifetime"), (["--cors-origin", "app.example.com"], "scheme://host"), (["--cors-origin", "https://a.example/"], "without a path"),
        (["--cors-origin", "null"], "--cors-origin"), (["--allowed-host", "a.example:80"], "--allowed-host"), (["--allowed-host", "http://a.example"], "--allowed-host"),
        (["--public-url", "a.example"], "--public-url"), (["--public-url", "ftp://a.example"], "--public-url"),
        (["--public-url", "https://a.example/x?y"], "--public-url"), (["--public-url", "https://a.example/#x"], "--public-url"),
        (["--public-url", "https://a.example/a//b"], "--public-url"), (["--public-url", "https://a.example/../x"], "--public-url"),
        (["--public-url", "https://a.example/a%20b"], "--public-url"),
    ])
    func errors(_ arguments: [String], _ named: String) {
        #expect {
            _ = try configuration(arguments)
        } throws: { error in
            (error as? ConfigurationError)?.description.contains(named) ?? false
        }
    }

    // MARK: Access

    @Test func accessIsOpenOnLoopbackByDefault() throws {
        let access = try configuration([]).access
        #expect(access.tokens.isEmpty)
        #expect(access.urlLifetime == 3600)
        #expect(access.crossOrigin == CrossOrigin())
        #expect(access.allowedHosts.isEmpty)
        #expect(access.warnings.isEmpty)
    }

    @Test func tokensFromFlagsVariableAndFile() throws {
        let one = "token-number-one-1234"
        let two = "token.number~two+/=="
        #expect(try configuration(["--token", one, "--token=\(two)"]).access.tokens == [one, two])
        #expect(try configuration([], ["COMFY_BRIDGE_TOKEN": "\(one),\(two)"]).access.tokens == [one, two])
        // As docker-compose.yml sets it when there is none.
        let unset = try configuration([], ["COMFY_BRIDGE_TOKEN": "", "COMFY_BRIDGE_TOKEN_FILE": "", "COMFY_BRIDGE_CORS_ORIGIN": "", "COMFY_BRIDGE_ALLOWED_HOST": ""])
        #expect(unset.access.tokens == [])
        #expect(unset.access.crossOrigin == CrossOrigin())
        let (file, both) = try withFile("# for the page\n\n  \(one)  \r\n#\(two)\n\t\n\(two)") { path in
            let file = try configuration(["--token-file", path]).access.tokens
            return (file, try configuration(["--token", "token-number-three-5"], ["COMFY_BRIDGE_TOKEN_FILE": path]).access.tokens)
        }
        #expect(file == [one, two])
        #expect(both == ["token-number-three-5", one, two])
    }

    @Test("A token that cannot be used is refused without being shown", arguments: [
        "short-token-123", "a token of words, not b64", "schl\u{fc}ssel-schl\u{fc}ssel", "token=in-the-middle=", "================", "quoted\"token\"quoted",
    ])
    func badTokens(_ token: String) throws {
        func message(_ body: () throws -> Void) -> String {
            do { try body() } catch { return (error as? ConfigurationError)?.description ?? "another error: \(error)" }
            return "none"
        }
        for part in token.split(separator: ",") {
            let flag = message { _ = try configuration(["--token", "token-number-one-1234", "--token", token]) }
            #expect(flag.hasPrefix("token number 2 of --token "))
            #expect(!flag.contains(part))
            let file = try withFile("#\n\(token)\n") { path in message { _ = try configuration(["--token-file", path]) } }
            #expect(file.hasPrefix("line 2 of --token-file '"))
            #expect(!file.contains(part))
        }
        #expect(!message { _ = try configuration(["--token", "token-number-one-1234", "stray-secret"]) }.contains("stray-secret"))
    }

    @Test func aTokenFileWithoutTokensIsRefused() throws {
        func isRefused(_ path: String, _ word: String) {
            #expect {
                _ = try configuration(["--token-file", path])
            } throws: { error in
                let message = (error as? ConfigurationError)?.description ?? ""
                return message.hasPrefix("--token-file '\(path)'") && message.contains(word)
            }
        }
        isRefused("/nowhere/tokens", "cannot be read")
        isRefused("/", "cannot be read")
        try withFile("") { isRefused($0, "no token") }
        try withFile("# only a comment\n\n") { isRefused($0, "no token") }
    }

    @Test("Loopback", arguments: ["127.0.0.1", "127.8.9.10", "::1", "localhost", "LOCALHOST", "0:0:0:0:0:0:0:1"])
    func loopback(_ host: String) throws {
        #expect(try configuration(["--host", host]).access.warnings.isEmpty)
    }

    @Test("A bind that others reach wants a token, or to be told", arguments: [
        "0.0.0.0", "::", "192.168.1.2", "fe80::1", "example.com", "localhost.example.com", "127.0.0.1.example.com", "128.0.0.1", "1127.0.0.1", "::ffff:127.0.0.1", "[::1]",
    ])
    func bind(_ host: String) throws {
        #expect {
            _ = try configuration(["--host", host])
        } throws: { error in
            let message = (error as? ConfigurationError)?.description ?? ""
            return ["--host \(host)", "--token", "--token-file", "--host 127.0.0.1", "--allow-insecure-bind"].allSatisfy(message.contains)
        }
        #expect(try configuration(["--host", host, "--token", "token-number-one-1234"]).access.warnings.isEmpty)
        #expect(try configuration(["--host", host, "--allow-insecure-bind"]).access.warnings.count == 1)
        #expect(try configuration(["--allow-insecure-bind", "--host", host]).access.warnings.count == 1)
        for value in ["true", "1", "True"] {
            #expect(try configuration(["--host", host], ["COMFY_BRIDGE_ALLOW_INSECURE_BIND": value]).access.warnings.count == 1)
        }
        for value in ["false", "0", ""] {
            #expect(throws: ConfigurationError.self) { try configuration(["--host", host], ["COMFY_BRIDGE_ALLOW_INSECURE_BIND": value]) }
        }
        #expect(throws: ConfigurationError.self) { try configuration(["--host", host, "--allow-insecure-bind=false"], ["COMFY_BRIDGE_ALLOW_INSECURE_BIND": "1"]) }
    }

    @Test("Memory for bodies has room for one of the largest", arguments: [
        ([], 256), (["--max-body-size", "512"], 512), (["--body-memory", "64"], 64), (["--body-memory", "1000", "--max-body-size", "1000"], 1000), (["--body-memory", "63"], nil),
        (["--body-memory", "512", "--max-body-size", "513"], nil),
    ] as [([String], Int?)])
    func bodyMemory(_ flags: [String], _ megabytes: Int?) throws {
        guard let megabytes else {
            _ = #expect(throws: ConfigurationError.self) { try configuration(flags) }
            return
        }
        #expect(try configuration(flags).http.bodyMemory == megabytes << 20)
    }

    @Test func everyPageWithoutATokenIsWarnedOf() throws {
        #expect(try configuration(["--cors-origin", "*"]).access.warnings.count == 1)
        #expect(try configuration(["--cors-origin", "*", "--token", "token-number-one-1234"]).access.warnings.isEmpty)
        #expect(try configuration(["--cors-origin", "https://a.example"]).access.warnings.isEmpty)
    }

    private func withFile<Result>(_ text: String, _ body: (String) throws -> Result) throws -> Result {
        let path = FileManager.default.temporaryDirectory.appendingPathComponent("comfy-bridge-\(UUID().uuidString)").path
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try body(path)
    }
}
