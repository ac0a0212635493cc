import AsyncHTTPClient
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Testing

@testable import Simulator

/// Starts a simulator on a free port, and stops it when the body is done.
func withSimulator<R>(
    _ configure: (inout ComfySimulator.Configuration) -> Void = { _ in }, _ body: (TestServer) async throws -> R
) async throws -> R {
    var configuration = ComfySimulator.Configuration()
    configuration.previewSize = 64
    configure(&configuration)
    let simulator = ComfySimulator(configuration: configuration, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let server = TestServer(simulator: simulator, port: try await simulator.start())
    do {
        let result = try await body(server)
        await simulator.stop()
        return result
    } catch {
        await simulator.stop()
        throw error
    }
}

/// For tests in which the simulator ends and comes back.
func withRestartingSimulator(
    _ configure: (inout ComfySimulator.Configuration) -> Void = { _ in }, _ body: (TestServer) async throws -> Void
) async throws {
    try await withSimulator(configure) { server in
        var server = server
        server.keepsAlive = false
        try await body(server)
    }
}

struct Answer: Sendable {
    let status: Int
    let headers: HTTPHeaders
    let body: [UInt8]

    var json: JSON { (try? JSON(parsing: body, lenient: true)) ?? .null }
    var text: String { String(decoding: body, as: UTF8.self) }
    func header(_ name: String) -> String? { headers.first(name: name) }
}

struct TestServer: Sendable {
    let simulator: ComfySimulator
    let port: Int
    /// False where the simulator restarts: a pooled connection may end just when it is used again.
    var keepsAlive = true

    func get(_ path: String, _ headers: HTTPHeaders = [:]) async throws -> Answer { try await request(.GET, path, headers) }

    @discardableResult
    func post(_ path: String, _ json: JSON) async throws -> Answer {
        try await request(.POST, path, ["Content-Type": "application/json"], json.encoded())
    }

    func request(_ method: HTTPMethod, _ path: String, _ headers: HTTPHeaders = [:], _ body: [UInt8]? = nil) async throws -> Answer {
        var request = HTTPClientRequest(url: "http://127.0.0.1:\(port)\(path)")
        request.method = method
        request.headers = headers
        if !keepsAlive { request.headers.add(name: "Connection", value: "close") }
        if let body { request.body = .bytes(ByteBuffer(bytes: body)) }
        let response = try await HTTPClient.shared.execute(request, timeout: .seconds(30))
        let bytes = try await response.body.collect(upTo: 256 << 20)
        return Answer(status: Int(response.status.code), headers: response.headers, body: Array(bytes.readableBytesView))
    }

    /// Submits a graph that must be accepted.
    func submit(_ graph: JSON, client: String? = "client-a", _ more: JSONObject = [:]) async throws -> String {
        var body: JSONObject = ["prompt": graph]
        if let client { body["client_id"] = .string(client) }
        body.merge(more) { $1 }
        let answer = try await post("/prompt", .object(body))
        return try #require(answer.json["prompt_id"]?.string, "\(answer.status) \(answer.text)")
    }

    func socket(_ clientID: String = "client-a", flags: Bool = true) async throws -> SocketClient {
        let socket = try await SocketClient.connect(port: port, path: "/ws?clientId=\(clientID)")
        if flags { try await socket.send(TestServer.featureFlags) }
        return socket
    }

    /// Asks until the prompt has ended; for when no socket tells.
    @discardableResult
    func waitForHistory(_ id: String) async throws -> JSON {
        while true {
            if let entry = try await history(id) { return entry }
        }
    }

    /// Whether nobody listens. HTTP clients would try for half a minute.
    func isGone() async -> Bool {
        do {
            _ = try await RawConnection.exchange("GET /prompt HTTP/1.0\r\n\r\n", port: port)
            return false
        } catch {
            return true
        }
    }

    /// Connects until somebody listens again; for when it went away on purpose. Nothing tells when it is back, so this asks.
    func waitUntilBack() async throws {
        while (try? await RawConnection.exchange("GET /prompt HTTP/1.0\r\n\r\n", port: port))?.contains("200 OK") != true {
            try Task.checkCancellation()
        }
    }

    func history(_ id: String) async throws -> JSON? { try await get("/history/\(id)").json[id] }

    static let featureFlags = #"{"type": "feature_flags", "data": {"supports_preview_metadata": true}}"#
}

extension SocketClient {
    /// Everything up to and including the message; fails when the connection ends before.
    @discardableResult
    func messages(until isLast: (SocketMessage) -> Bool) async throws -> [SocketMessage] {
        var messages: [SocketMessage] = []
        while let message = await next() {
            messages.append(message)
            if isLast(message) { return messages }
        }
        Issue.record("the socket closed after \(messages.map(\.kind))")
        return messages
    }

    /// Up to the end of a run: `executing` with node null.
    @discardableResult
    func messagesOfRun() async throws -> [SocketMessage] { try await messages { $0.isEndOfRun } }

    func message(_ type: String) async throws -> JSON {
        try await messages { $0.type == type }.last?.data ?? .null
    }
}

extension SocketMessage {
    var json: JSON? { if case .text(let json) = self { json } else { nil } }
    var type: String? { json?["type"]?.string }
    var data: JSON? { json?["data"] }
    var bytes: [UInt8]? { if case .binary(let bytes) = self { bytes } else { nil } }
    var isEndOfRun: Bool { type == "executing" && data?["node"] == .null }

    /// Type of the message, `binary 4` for a frame.
    var kind: String {
        switch self {
        case .text(let json): json["type"]?.string ?? "?"
        case .binary(let bytes): "binary \(bytes.prefix(4).reduce(0) { $0 << 8 | Int($1) })"
        case .close(let code): "close \(code)"
        case .pong: "pong"
        }
    }

    /// The picture of a preview, with or without metadata.
    var picture: Picture? {
        guard let bytes, bytes.count > 8 else { return nil }
        let start = bytes[3] == 4 ? 8 + bytes[4..<8].reduce(0) { $0 << 8 | Int($1) } : 8
        return try? Picture.decode(Array(bytes[start...]))
    }
}

enum Graphs {
    /// EmptyImage → SaveImage.
    static func trivial(color: Int = 1, prefix: String = "t", size: Int = 16) -> JSON {
        [
            "1": [
                "class_type": "EmptyImage", "inputs": ["width": JSON(size), "height": JSON(size), "batch_size": 1, "color": JSON(color)],
            ],
            "2": ["class_type": "SaveImage", "inputs": ["images": ["1", 0], "filename_prefix": .string(prefix)]],
        ]
    }

    /// The everyday job.
    static func textToImage(seed: JSON = 5, steps: Int = 4, size: Int = 64, text: String = "a lake") -> JSON {
        [
            "3": [
                "class_type": "KSampler",
                "inputs": [
                    "seed": seed, "steps": JSON(steps), "cfg": 7.5, "sampler_name": "euler", "scheduler": "normal",
                    "denoise": .number(JSONNumber(literal: "1.0")),
                    "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0],
                ],
            ],
            "4": ["class_type": "CheckpointLoaderSimple", "inputs": ["ckpt_name": "sd15.safetensors"]],
            "5": ["class_type": "EmptyLatentImage", "inputs": ["width": JSON(size), "height": JSON(size), "batch_size": 1]],
            "6": ["class_type": "CLIPTextEncode", "inputs": ["text": .string(text), "clip": ["4", 1]]],
            "7": ["class_type": "CLIPTextEncode", "inputs": ["text": "blurry", "clip": ["4", 1]]],
            "8": ["class_type": "VAEDecode", "inputs": ["samples": ["3", 0], "vae": ["4", 2]]],
            "9": ["class_type": "SaveImage", "inputs": ["filename_prefix": "txt2img", "images": ["8", 0]]],
        ]
    }

    /// EmptyImage → SimDelay → PreviewImage.
    static func slow(milliseconds: Int = 60_000, color: Int = 1, interruptible: Bool = true) -> JSON {
        [
            "1": ["class_type": "EmptyImage", "inputs": ["width": 8, "height": 8, "batch_size": 1, "color": JSON(color)]],
            "2": [
                "class_type": "SimDelay",
                "inputs": ["image": ["1", 0], "milliseconds": JSON(milliseconds), "interruptible": JSON(interruptible)],
            ],
            "3": ["class_type": "PreviewImage", "inputs": ["images": ["2", 0]]],
        ]
    }
}
