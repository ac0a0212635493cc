import AsyncHTTPClient
import ComfyUI
import Foundation
import Logging
import NIOCore
import NIOHTTP1
import OrderedCollections
import OrderedJSON
import Simulator
import Testing

@testable import API
@testable import Bridge
@testable import Jobs
@testable import Store
@testable import TestSupport
@testable import Workers

/// A bridge in this process, on a free port, in front of simulated ComfyUIs.
struct RunningBridge: Sendable {
    let base: String
    /// Noted whenever the bridge has logged something.
    var changes = Changes()

    /// As many connections as there are streams to be watched; `HTTPClient.shared` has 8.
    private static let client: HTTPClient = {
        var configuration = HTTPClient.Configuration.singletonConfiguration
        configuration.connectionPool.concurrentHTTP1ConnectionsPerHostSoftLimit = 1024
        return HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration)
    }()

    struct Answer: Sendable {
        let status: Int
        let headers: HTTPHeaders
        let body: [UInt8]

        var json: JSON { get throws { try JSON(parsing: body) } }
        var errorCode: String? { (try? json)?["error"]?["code"]?.string }
    }

    struct Event: Sendable, Equatable {
        var id: Int?
        var name = "message"
        var data = ""

        var json: JSON { (try? JSON(parsing: data)) ?? .null }
        var isTerminal: Bool { name == "status" && ["succeeded", "failed", "canceled"].contains(json["status"]?.string ?? "") }
    }

    func send(_ method: HTTPMethod, _ path: String, _ headers: [(String, String)] = [], body: [UInt8]? = nil) async throws -> Answer {
        let response = try await open(method, path, headers, body: body)
        let bytes = try await response.body.collect(upTo: 512 << 20)
        return Answer(status: Int(response.status.code), headers: response.headers, body: Array(bytes.readableBytesView))
    }

    func get(_ path: String, _ headers: [(String, String)] = []) async throws -> Answer { try await send(.GET, path, headers) }

    func run(_ workflow: JSON, query: String = "", _ headers: [(String, String)] = []) async throws -> Answer {
        try await send(.POST, "/run\(query)", headers, body: workflow.encoded())
    }

    /// Submits without waiting; the job's id.
    ///
    /// - Parameter members: of the body, beside the workflow.
    func submit(_ workflow: JSON, query: String = "", _ members: JSONObject = [:]) async throws -> String {
        let body = members.merging(["workflow": workflow]) { _, workflow in workflow }
        let answer = try await send(.POST, "/api/v2/jobs\(query)", body: JSON.object(body).encoded())
        return try answer.json["id"]?.string ?? "none: \(String(decoding: answer.body, as: UTF8.self))"
    }

    func job(_ id: String) async throws -> JSON { try await get("/api/v2/jobs/\(id)").json }

    /// Follows the job's stream to its end, or until `stop` says so.
    @discardableResult
    func events(
        of id: String, query: String = "", _ headers: [(String, String)] = [], until stop: (Event) -> Bool = { _ in false }
    ) async throws -> [Event] {
        try await events(try await open(.GET, "/api/v2/jobs/\(id)/events\(query)", headers, body: nil), until: stop)
    }

    func events(_ response: HTTPClientResponse, until stop: (Event) -> Bool = { _ in false }) async throws -> [Event] {
        var events: [Event] = []
        var event = Event()
        var line: [UInt8] = []
        for try await piece in response.body {
            for byte in piece.readableBytesView {
                guard byte == UInt8(ascii: "\n") else {
                    line.append(byte)
                    continue
                }
                let text = String(decoding: line, as: UTF8.self)
                line.removeAll()
                if text.isEmpty {
                    if !event.data.isEmpty {
                        events.append(event)
                        if stop(event) { return events }
                    }
                    event = Event()
                } else if let value = text.value(of: "id") {
                    event.id = Int(value)
                } else if let value = text.value(of: "event") {
                    event.name = value
                } else if let value = text.value(of: "data") {
                    event.data = value
                }
            }
        }
        return events
    }

    func open(_ method: HTTPMethod, _ path: String, _ headers: [(String, String)] = [], body: [UInt8]?) async throws -> HTTPClientResponse {
        var request = HTTPClientRequest(url: path.hasPrefix("http") ? path : base + path)
        request.method = method
        for (name, value) in headers { request.headers.add(name: name, value: value) }
        if let body { request.body = .bytes(body) }
        return try await Self.client.execute(request, timeout: .minutes(1))
    }
}

extension String {
    fileprivate func value(of field: String) -> String? {
        hasPrefix("\(field): ") ? String(dropFirst(field.count + 2)) : nil
    }
}

/// Runs the body with a bridge in front of the ComfyUIs at the given ports, ready to take jobs unless told otherwise. It keeps everything in
/// memory unless the flags name a `--data-dir`.
func withBridge(
    _ ports: [Int], _ flags: [String] = [], waitUntilReady: Bool = true, logger: Logger = .errorsOnly, _ body: (RunningBridge) async throws -> Void
) async throws {
    let storage = flags.contains("--data-dir") ? [] : ["--data-dir", "none"]
    let arguments = ["--port", "0"] + storage + ports.flatMap { ["--comfyui", "http://127.0.0.1:\($0)"] } + flags
    let configuration = try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: arguments, environment: [:]))
    let client = HTTPClient(eventLoopGroup: HTTPClient.defaultEventLoopGroup, configuration: configuration.httpClient)
    do {
        let changes = Changes()
        let logger = Logger(label: logger.label) { _ in NotingLogHandler(logger.handler, changes: changes) }
        let bridge = try ComfyBridge(configuration: configuration, httpClient: client, eventLoopGroup: HTTPClient.defaultEventLoopGroup, logger: logger)
        let running = RunningBridge(base: "http://127.0.0.1:\(try await bridge.start())", changes: changes)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                do { try await bridge.run() } catch is CancellationError {}
            }
            if waitUntilReady { try await running.untilReady() }
            try await body(running)
            group.cancelAll()
        }
    } catch {
        try await client.shutdown()
        throw error
    }
    try await client.shutdown()
}

/// Runs the body with one simulated ComfyUI and a bridge in front of it.
func withBridge(
    _ flags: [String] = [], simulator change: (inout ComfySimulator.Configuration) -> Void = { _ in }, logger: Logger = .errorsOnly,
    _ body: (RunningBridge, ComfySimulator) async throws -> Void
) async throws {
    try await withSimulator(change) { simulator, port in
        try await withBridge([port], flags, logger: logger) { try await body($0, simulator) }
    }
}

func withSimulator(
    _ change: (inout ComfySimulator.Configuration) -> Void = { _ in }, _ body: (ComfySimulator, _ port: Int) async throws -> Void
) async throws {
    var configuration = ComfySimulator.Configuration()
    configuration.previewSize = 64
    change(&configuration)
    let simulator = ComfySimulator(configuration: configuration, logger: Logger(label: "simulator") { _ in SwiftLogNoOpLogHandler() })
    let port = try await simulator.start()
    do { try await body(simulator, port) } catch {
        await simulator.stop()
        throw error
    }
    await simulator.stop()
}

/// A port on which nobody listens, for a ComfyUI that is away and comes back. Below those that the system gives to who asks for any, such as the
/// other tests.
func freePort() async throws -> Int {
    while true {
        let port = Int.random(in: 20_000..<32_000)
        do { try await withSimulator({ $0.port = port }) { _, _ in } } catch { continue }
        return port
    }
}
