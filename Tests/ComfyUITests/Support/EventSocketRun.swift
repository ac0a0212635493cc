import ComfyUI
import Logging
import NIOCore
import NIOPosix

/// An `EventSocket` that runs while `body` does; returns when its `run()` has.
///
/// - Parameter parts: gets what tells of parts of messages, which the network decides about; else nobody does.
func withEventSocket(
    _ url: String, clientID: String = "me", _ adjust: (inout EventSocket.Configuration) -> Void = { _ in }, parts: Inbox<Void>? = nil,
    _ body: @escaping @Sendable (EventSocket, Inbox<EventSocketEvent>) async throws -> Void
) async throws {
    var configuration = EventSocket.Configuration(endpoint: try ComfyEndpoint(url), clientID: clientID)
    configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(50))
    adjust(&configuration)
    let events = Inbox<EventSocketEvent>()
    let socket = EventSocket(
        configuration: configuration, eventLoopGroup: MultiThreadedEventLoopGroup.singleton, logger: .silent,
        onEvent: { event in if case .receiving = event { parts?.put(()) } else { events.put(event) } })
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { await socket.run() }
        defer { group.cancelAll() }
        try await body(socket, events)
    }
}

extension Logger {
    static var silent: Logger { Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }) }
}

extension Inbox<EventSocketEvent> {
    func nextConnected() async throws -> String? {
        try await first { if case .connected(let sid) = $0 { .some(sid) } else { nil } }
    }

    func nextMessage() async throws -> (message: ComfyMessage, raw: String) {
        try await first { if case .message(let message, let raw) = $0 { (message, raw) } else { nil } }
    }

    func nextBinary() async throws -> ComfyBinaryMessage {
        try await first { if case .binary(let message) = $0 { message } else { nil } }
    }

    func nextDisconnected() async throws -> String {
        try await first { if case .disconnected(let reason) = $0 { reason } else { nil } }
    }

    func nextUndecodable() async throws -> String {
        try await first { if case .undecodable(let reason) = $0 { reason } else { nil } }
    }
}

extension ComfyBinaryMessage {
    /// Bytes of a message of an unknown type.
    var unknownLength: Int? { if case .unknown(_, let length, _) = self { length } else { nil } }
}
