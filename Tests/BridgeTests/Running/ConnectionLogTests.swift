import InMemoryLogging
import Logging
import OrderedJSON
import Simulator
import Testing

@testable import Workers

@Suite(.timeLimit(.minutes(5))) struct ConnectionLogTests {
    private func logger() -> (Logger, InMemoryLogHandler) {
        let log = InMemoryLogHandler()
        var logger = Logger(label: "test") { _ in log }
        logger.logLevel = .trace
        return (logger, log)
    }

    @Test func anOutageIsOneWarningAndItsEndOneNotice() {
        let (logger, log) = logger()
        let connectionLog = ConnectionLog()
        func away(_ reason: String) { connectionLog.note(.disconnected(since: .now, reason: reason), in: logger) }
        for _ in 0..<53 { away("connection refused") }
        away("no route to host")
        connectionLog.note(.connected, in: logger)
        away("the server closed")
        away("connection refused")
        connectionLog.note(.connected, in: logger)
        #expect(log.entries.filter { $0.level > .debug }.map(\.level) == [.warning, .notice, .warning, .notice])
        let reasons = log.entries.filter { $0.level == .debug }.map { $0.metadata["reason"]?.description ?? "" }
        #expect(reasons.contains("no route to host"))
        #expect(log.entries.last { $0.level == .warning }?.metadata["reason"] == "the server closed")
    }

    @Test func aConnectionThatIsThereFromTheStartIsOneLine() {
        let (logger, log) = logger()
        ConnectionLog().note(.connected, in: logger)
        #expect(log.entries.map(\.level) == [.info])
    }

    /// From the bridge's start before its ComfyUI is there, to its stop.
    @Test func aWholeLife() async throws {
        let (logger, log) = logger()
        func told() -> [String] { log.entries.filter { $0.level > .debug && $0.message.description.contains("connected to ComfyUI") }.map { "\($0.level) \($0.message)" } }
        let port = try await freePort()
        try await withBridge([port], waitUntilReady: false, logger: logger) { bridge in
            try await bridge.until("three attempts to connect have failed") { _ in
                log.entries.count { $0.message.description.contains("the connection of the event socket has ended") } >= 3
            }
            try await withSimulator({ $0.port = port }) { _, _ in
                try await bridge.untilReady()
            }
            try await bridge.until(isConnected: false)
        }
        let away = "warning not connected to ComfyUI; trying until it is back"
        #expect(told() == [away, "notice connected to ComfyUI again", away])
    }
}
