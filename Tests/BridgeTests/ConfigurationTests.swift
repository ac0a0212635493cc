import ComfyUI
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
    ])
    func errors(_ arguments: [String], _ named: String) {
        #expect {
            _ = try configuration(arguments)
        } throws: { error in
            (error as? ConfigurationError)?.description.contains(named) ?? false
        }
    }
}
