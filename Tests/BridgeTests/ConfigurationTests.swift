import Foundation
import Jobs
import MicroHTTP
import Testing

@testable import API
@testable import Bridge
@testable import Workflow
@testable import Workers
@testable import ComfyUI

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

    @Test(
        "What is wrong is said with the flag's name",
        arguments: [
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

    @Test("A setting that has one value and is given twice is refused", arguments: BridgeConfiguration.options.map(\.name))
    func twice(_ name: String) throws {
        let option = try #require(BridgeConfiguration.options.first { $0.name == name })
        let forms = option.placeholder.isEmpty ? [["--\(name)", "--\(name)"], ["--\(name)=true", "--\(name)=false"]] : [["--\(name)", "a1", "--\(name)", "b2"], ["--\(name)=a1", "--\(name)", "a1"]]
        for arguments in forms {
            let reading = Result { try OptionReader(BridgeConfiguration.options, arguments: arguments, environment: [:]) }
            if option.separator != nil {
                #expect(try reading.get().strings(name).count == 2)
            } else {
                let error = #expect(throws: ConfigurationError.self) { try reading.get() }
                #expect(error?.description == "--\(name) is given more than once, and takes one value; leave one of them.")
            }
        }
    }

    @Test func theListsAreThese() {
        #expect(
            BridgeConfiguration.options.filter { $0.separator != nil }.map(\.name)
                == ["comfyui", "comfyui-header", "comfyui-header-file", "token", "cors-origin", "allowed-host", "allowed-folder"])
    }

    @Test(
        "A value of the environment is blamed on its variable",
        arguments: [
            (["COMFY_BRIDGE_PORT": "x"], "COMFY_BRIDGE_PORT is 'x'"), (["COMFY_BRIDGE_PORT": "tcp:/10.0.0.1"], "COMFY_BRIDGE_PORT is 'tcp:/10.0.0.1'"),
            (["COMFY_BRIDGE_PREVIEW_METHOD": "best"], "COMFY_BRIDGE_PREVIEW_METHOD is 'best'"), (["COMFY_BRIDGE_ALLOW_INSECURE_BIND": "yes"], "COMFY_BRIDGE_ALLOW_INSECURE_BIND is"),
            (["COMFY_BRIDGE_HEARTBEAT": "0"], "COMFY_BRIDGE_HEARTBEAT must"), (["COMFY_BRIDGE_SDK_HOLD": "30"], "COMFY_BRIDGE_SDK_HOLD must"),
            (["COMFY_BRIDGE_JOB_TIMEOUT": "soon"], "COMFY_BRIDGE_JOB_TIMEOUT is 'soon'"), (["COMFY_BRIDGE_COMFYUI": "ftp://x"], "COMFY_BRIDGE_COMFYUI: "),
            (["COMFY_BRIDGE_CORS_ORIGIN": "a"], "COMFY_BRIDGE_CORS_ORIGIN 'a'"), (["COMFY_BRIDGE_ALLOWED_HOST": "a:1"], "COMFY_BRIDGE_ALLOWED_HOST 'a:1'"),
            (["COMFY_BRIDGE_PUBLIC_URL": "a"], "COMFY_BRIDGE_PUBLIC_URL 'a'"), (["COMFY_BRIDGE_TOKEN": "short"], "token number 1 of COMFY_BRIDGE_TOKEN "),
            (["COMFY_BRIDGE_TOKEN_FILE": "/nowhere"], "COMFY_BRIDGE_TOKEN_FILE '/nowhere' cannot be read: no such file or directory."),
            (["COMFY_BRIDGE_HOST": "0.0.0.0"], "COMFY_BRIDGE_HOST 0.0.0.0"), (["COMFY_BRIDGE_COMFYUI_HEADER": "nothing"], "header number 1 of COMFY_BRIDGE_COMFYUI_HEADER "),
        ] as [([String: String], String)])
    func blame(_ environment: [String: String], _ beginning: String) {
        let error = #expect(throws: ConfigurationError.self) { try configuration([], environment) }
        #expect(error?.description.hasPrefix(beginning) == true, "\(error?.description ?? "")")
    }

    @Test func aFlagIsBlamedAlsoWhereThereIsAVariable() throws {
        let error = #expect(throws: ConfigurationError.self) { try configuration(["--port", "y"], ["COMFY_BRIDGE_PORT": "x"]) }
        #expect(error?.description.hasPrefix("--port is 'y'") == true)
        #expect(try configuration(["--port", "1"], ["COMFY_BRIDGE_PORT": "x"]).http.port == 1)
        #expect(try configuration(["--comfyui", "http://a:1"], ["COMFY_BRIDGE_COMFYUI": "http://b:1,http://c:1"]).workers.map(\.endpoint.host) == ["a"])
    }

    // MARK: Variables that are no settings

    /// As `kubectl exec … env` shows them for a Service `comfy-bridge` with a named port, and others whose names begin so.
    private static let serviceLinks = [
        "COMFY_BRIDGE_PORT": "tcp://10.0.0.1:8189", "COMFY_BRIDGE_PORT_8189_TCP": "tcp://10.0.0.1:8189", "COMFY_BRIDGE_PORT_8189_TCP_PROTO": "tcp",
        "COMFY_BRIDGE_PORT_8189_TCP_PORT": "8189", "COMFY_BRIDGE_PORT_8189_TCP_ADDR": "10.0.0.1", "COMFY_BRIDGE_SERVICE_HOST": "10.0.0.1",
        "COMFY_BRIDGE_SERVICE_PORT": "8189", "COMFY_BRIDGE_SERVICE_PORT_HTTP": "8189", "COMFY_BRIDGE_PORT_53_UDP_ADDR": "10.0.0.1",
        "COMFY_BRIDGE_METRICS_PORT": "tcp://[fd00::1]:9090", "COMFY_BRIDGE_METRICS_SERVICE_HOST": "fd00::1", "COMFY_BRIDGE_METRICS_PORT_9090_TCP": "tcp://[fd00::1]:9090",
    ]

    @Test func serviceLinksOfKubernetesAreNoSettings() throws {
        #expect(try configuration([], Self.serviceLinks).http.port == 8189)
        #expect(try configuration(["--port", "7"], Self.serviceLinks).http.port == 7)
        #expect(OptionReader.warnings(about: Self.serviceLinks, options: BridgeConfiguration.options) == [])
    }

    @Test func aVariableThatIsNoSettingIsWarnedOfOnce() {
        let environment = [
            "COMFY_BRIDGE_TOKN": "secret-of-mine", "COMFY_BRIDGE_QUEUELIMIT": "3", "COMFY_BRIDGE_WHATEVER_THAT_IS": "x", "COMFY_BRIDGE_TOKEN": "", "COMFY_BRIDGE_PORT": "1",
            "COMFY_BRIDGE_BINARY": "/b", "COMFY_BRIDGETON": "x", "PATH": "/bin", "COMFY_BRIDGE_STEP_DELAY": "1", "COMFY_BRIDGE_PROT": "tcp://10.0.0.1:1",
        ]
        let simulator = Option("step-delay", "MS", "of another command")
        let warnings = OptionReader.warnings(about: environment, options: BridgeConfiguration.options + [simulator])
        #expect(
            warnings == [
                "COMFY_BRIDGE_PROT is set, and no setting of comfy-bridge has that name: it is ignored; is COMFY_BRIDGE_PORT meant?",
                "COMFY_BRIDGE_QUEUELIMIT is set, and no setting of comfy-bridge has that name: it is ignored; is COMFY_BRIDGE_QUEUE_LIMIT meant?",
                "COMFY_BRIDGE_TOKN is set, and no setting of comfy-bridge has that name: it is ignored; is COMFY_BRIDGE_TOKEN meant?",
                "COMFY_BRIDGE_WHATEVER_THAT_IS is set, and no setting of comfy-bridge has that name: it is ignored; see --help for those that there are.",
            ])
    }

    // MARK: ComfyUI

    private func headers(_ configuration: BridgeConfiguration) -> [[String]] { configuration.workers.map { $0.endpoint.headers.map { "\($0.name)=\($0.value)" } } }

    @Test func headersForAllForOneAndFromFiles() throws {
        let urls = ["--comfyui", "https://a.example/x/", "--comfyui", "http://b:8188"]
        #expect(try headers(configuration(urls + ["--comfyui-header", "X-Key: 1 2", "--comfyui-header=X-Two:two"])) == [["X-Key=1 2", "X-Two=two"], ["X-Key=1 2", "X-Two=two"]])
        // The one for this ComfyUI counts, whatever the order; addresses are compared in their normal form.
        #expect(
            try headers(configuration(urls + ["--comfyui-header", "HTTPS://A.example:443/x x-key: own", "--comfyui-header", "X-Key: common"]))
                == [["x-key=own"], ["X-Key=common"]])
        #expect(try headers(configuration(urls, ["COMFY_BRIDGE_COMFYUI_HEADER": "Cookie: a=1, b\n http://b:8188 X-B: 2 \n"])) == [["Cookie=a=1, b"], ["Cookie=a=1, b", "X-B=2"]])
        try withFile("# for the proxy\n\nAuthorization: Bearer abc\r\nhttp://b:8188  X-B:  2\n") { path in
            let one = try configuration(urls + ["--comfyui-header-file", path])
            #expect(headers(one) == [["Authorization=Bearer abc"], ["Authorization=Bearer abc", "X-B=2"]])
            let three = try configuration(urls + ["--comfyui-header-file", path, "--comfyui-header-file", path, "--comfyui-header", "X: y"])
            #expect(headers(three)[0] == ["X=y", "Authorization=Bearer abc"])
        }
        // A user name in an address is for that one; a common header is for the others.
        let named = try configuration(["--comfyui", "http://me:pw@a", "--comfyui", "http://b", "--comfyui-header", "Authorization: Bearer t"])
        #expect(headers(named) == [[], ["Authorization=Bearer t"]])
        #expect(named.workers[0].endpoint.requestHeaders.map(\.value) == ["Basic bWU6cHc="])
    }

    @Test(
        "Headers that cannot be sent are refused, without their values",
        arguments: [
            ("Host: secret-1", "Host"), ("content-length: secret-1", "content-length"), ("Transfer-Encoding: secret-1", "Transfer-Encoding"), ("Connection: secret-1", "Connection"),
            ("Upgrade: secret-1", "Upgrade"), ("TE: secret-1", "TE"), ("Sec-WebSocket-Key: secret-1", "Sec-WebSocket-Key"), ("Origin: secret-1", "Origin"),
            ("Range: secret-1", "Range"), ("If-None-Match: secret-1", "If-None-Match"), ("Accept-Encoding: secret-1", "Accept-Encoding"), ("Content-Type: secret-1", "Content-Type"),
            ("X Y: secret-1", "name"), (": secret-1", "name"), ("X-\u{e9}: secret-1", "name"), ("secret-1", "colon"), ("X:", "nothing"), ("X: \t ", "nothing"),
            ("X: secret-1\u{7}", "characters"), ("X: secret-1\r\nY: z", "characters"), ("X: secret-1\u{e9}", "characters"), ("X: secret-1\u{0}", "characters"),
            ("http://c:1 X: secret-1", "none of the ComfyUIs"), ("http://me:secret-1@c:1 X: secret-1", "none of the ComfyUIs"), ("http://127.0.0.1:8188", "colon"), ("ftp://a X: secret-1", "address"),
        ])
    func badHeaders(_ line: String, _ word: String) throws {
        let flag = #expect(throws: ConfigurationError.self) { try configuration(["--comfyui-header", "A: b", "--comfyui-header", line]) }?.description ?? ""
        #expect(flag.hasPrefix("header number 2 of --comfyui-header ") && flag.contains(word) && !flag.contains("secret-1"), "\(flag)")
        guard !line.contains("\n") else { return }
        try withFile("A: b\n\n\(line)\n") { path in
            let file = #expect(throws: ConfigurationError.self) { try configuration(["--comfyui-header-file", path]) }?.description ?? ""
            #expect(file.hasPrefix("line 3 of --comfyui-header-file '\(path)' ") && file.contains(word) && !file.contains("secret-1"), "\(file)")
        }
    }

    @Test func whatIsWrongWithTheAccessToComfyUI() throws {
        func message(_ arguments: [String]) -> String { #expect(throws: ConfigurationError.self) { try configuration(arguments) }?.description ?? "" }
        #expect(message(["--comfyui-header-file", "/nowhere"]) == "--comfyui-header-file '/nowhere' cannot be read: no such file or directory.")
        try withFile("# nothing\n") { #expect(message(["--comfyui-header-file", $0]).contains("has no header")) }
        #expect(message(["--comfyui-ca", "/nowhere"]) == "--comfyui-ca '/nowhere' cannot be read: no such file or directory.")
        try withFile("no certificate") { #expect(message(["--comfyui-ca", $0]).contains("has no certificate that can be read; it must be in PEM format")) }
        try withFile("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") { #expect(message(["--comfyui-ca", $0]).contains("has no certificate that can be read")) }
        #expect(message(["--comfyui-ca", "/x", "--comfyui-insecure"]).contains("leave one of them"))
        #expect(message(["--comfyui", "http://a:pw@b", "--comfyui-header", "http://b Authorization: x"]).contains("leave one of them"))
        #expect(message(["--comfyui", "http://a:8188/x", "--comfyui", "ws://a:8188/x/"]).contains("twice"))
        #expect(!message(["--comfyui-header", "X:", "stray-secret"]).contains("stray-secret"))
        let insecure = try configuration(["--comfyui", "https://a", "--comfyui-insecure"]).warnings
        #expect(insecure.count == 1 && insecure[0].contains("https://a") && insecure[0].contains("--comfyui-insecure"))
        #expect(try configuration([]).warnings == [])
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

    @Test(
        "A token that cannot be used is refused without being shown",
        arguments: [
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

    @Test(
        "A bind that others reach wants a token, or to be told",
        arguments: [
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

    @Test(
        "Memory for bodies has room for one of the largest",
        arguments: [
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

    @Test func allowedFolders() throws {
        let configuration = try BridgeConfiguration(
            OptionReader(
                BridgeConfiguration.options, arguments: ["--allowed-folder", "/data/pictures/", "--allowed-folder", "D:\\pool", "--isolate-outputs"], environment: [:]))
        #expect(try #require(configuration.workers.first).fileRules == FileRules(folders: ["/data/pictures", "D:\\pool"], isolatesOutputs: true))
        for folder in ["pictures", "~/pictures", "./x"] {
            #expect(throws: ConfigurationError.self) {
                try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: ["--allowed-folder", folder], environment: [:]))
            }
        }
    }
}
