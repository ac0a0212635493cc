import AsyncHTTPClient
import Foundation
import Logging
import MicroHTTP
import NIOCore
import NIOPosix
import OrderedCollections
import OrderedJSON
import Testing

@testable import Bridge
@testable import Jobs
@testable import Store
@testable import TestSupport

/// What a flag does, where no other suite looks at it.
@Suite(.timeLimit(.minutes(5))) struct FlagTests {
    private func configuration(_ flags: [String]) throws -> BridgeConfiguration {
        try BridgeConfiguration(OptionReader(BridgeConfiguration.options, arguments: flags, environment: [:]))
    }

    @Test(
        "They come where they are meant",
        arguments: [
            ("threads", ["1", "256"], ["0", "257", "x", "1.5"]), ("connection-memory", ["2", "4096"], ["1", "4097", "-2"]), ("idle-timeout", ["0", "1.5"], ["-1", "soon"]),
            ("retained-jobs", ["0", "10000000"], ["-1", "10000001"]), ("asset-retention", ["0", "60"], ["-1", "x"]),
        ])
    func ranges(_ flag: String, _ good: [String], _ bad: [String]) throws {
        for value in good { _ = try configuration(["--\(flag)", value]) }
        for value in bad {
            let error = #expect(throws: ConfigurationError.self) { try configuration(["--\(flag)", value]) }
            #expect(error?.description.contains("--\(flag)") == true, "\(value)")
        }
    }

    @Test func theServersAreTheServers() throws {
        let http = try configuration(["--threads", "3", "--connection-memory", "8", "--idle-timeout", "1.5"]).http
        #expect(http.threads == 3)
        #expect(http.connectionMemory == 8192)
        #expect(http.idleTimeout == .seconds(1.5))
    }

    @Test("A head may have half of the memory of its connection", arguments: [(2, 900, 200), (2, 1100, 431), (8, 3900, 200), (8, 4200, 431)])
    func connectionMemory(_ kilobytes: Int, _ head: Int, _ status: Int) async throws {
        try await withBridge([], ["--comfyui", "http://127.0.0.1:1", "--connection-memory", "\(kilobytes)"], waitUntilReady: false) { bridge in
            let text = "GET /api/v2/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
            let answer = try await RawExchange(bridge).send(text + String(repeating: "x", count: head - text.utf8.count - 4) + "\r\n\r\n").untilClosed()
            #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(answer)")
            if status != 200 { #expect(answer.contains("\(kilobytes * 512)")) }
        }
    }

    /// The one that may be idle is there first, and still when the other has been closed.
    @Test func anIdleConnectionIsClosedAfterItsTime() async throws {
        let nowhere = ["--comfyui", "http://127.0.0.1:1"]
        try await withBridge([], nowhere + ["--idle-timeout", "0"], waitUntilReady: false) { patient in
            try await withBridge([], nowhere + ["--idle-timeout", "0.5"], waitUntilReady: false) { bridge in
                let request = "GET /api/v2/health HTTP/1.1\r\nHost: localhost\r\n"
                let kept = try await RawExchange(patient)
                let idle = try await RawExchange(bridge).send(request + "\r\n").untilClosed()
                #expect(idle.hasPrefix("HTTP/1.1 200 ") && !idle.contains("Connection: close"))
                let answer = try await kept.send(request + "Connection: close\r\n\r\n").untilClosed()
                #expect(answer.hasPrefix("HTTP/1.1 200 "))
            }
        }
    }

    @Test("As many ended jobs are kept as the flag says, the newest", arguments: [0, 2, 10])
    func retainedJobs(_ limit: Int) async throws {
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let blobs = try FileBlobStore(directory: nil, logger: logger)
        defer { blobs.removeTemporaryDirectory() }
        let assets = AssetService(store: MemoryAssetStore(), blobs: blobs, comfyFiles: NoComfyFiles(), retention: nil, inUse: { [] }, logger: logger)
        let service = JobService(
            configuration: try configuration(["--retained-jobs", "\(limit)"]).jobs, store: MemoryJobs(), assets: assets, previewFiles: nil, metrics: Metrics(),
            logger: logger)
        var ids: [JobID] = []
        for _ in 0..<5 {
            let job = try await service.submit(try .sample())
            _ = service.queue.remove(job)
            await service.end(job, .succeeded)
            ids.append(job.id)
        }
        let waiting = try await service.submit(try .sample())
        try await service.removeEnded()
        var kept: [JobID] = []
        for id in ids where try await service.job(id) != nil { kept.append(id) }
        #expect(kept == Array(ids.suffix(limit)))
        #expect(try await service.job(waiting.id) != nil, "what is not over is none of them")
    }

    @Test("An upload is kept as long as the flag says", arguments: [("3600", 3600.0), ("0", nil)])
    func assetRetention(_ seconds: String, _ expected: Double?) async throws {
        try await withBridge([], ["--comfyui", "http://127.0.0.1:1", "--asset-retention", seconds], waitUntilReady: false) { bridge in
            let asset = try await bridge.upload([1, 2, 3], ["file_path": "a.bin"]).json
            func date(_ name: String) -> Date? {
                asset[name]?.string.flatMap { try? Date($0, strategy: Date.ISO8601FormatStyle(includingFractionalSeconds: true)) }
            }
            let created = try #require(date("created_at"))
            #expect(date("expires_at").map { $0.timeIntervalSince(created).rounded() } == expected)
            // What names a time itself has that.
            let own = try await bridge.upload([4], ["file_path": "b.bin", "expires_in": "60"]).json
            #expect(own["expires_at"]?.string != nil)
        }
    }

    /// A second upload with the key of one whose bytes are still coming. It may come again when that has ended.
    @Test func theKeyOfAnUploadThatIsUnderWayIsBusy() async throws {
        try await withBridge([], ["--comfyui", "http://127.0.0.1:1"], waitUntilReady: false) { bridge in
            let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.bin\"\r\n\r\n"
            let rest = "bytes\r\n--b--\r\n"
            let first = try await RawExchange(bridge).send(
                "POST /api/v2/assets HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                    + "Expect: 100-continue\r\nContent-Length: \(head.utf8.count + rest.utf8.count)\r\n\r\n")
            // The server asks for the body once the handler reads it, which has claimed the key by then.
            try await first.until("HTTP/1.1 100 Continue")
            try await first.send(head)
            let busy = try await bridge.upload([1], ["file_path": "b.bin"], [("Idempotency-Key", "k")])
            #expect(busy.status == 409 && busy.errorCode == "idempotency_key_busy")
            let other = try await bridge.upload([1], ["file_path": "b.bin"], [("Idempotency-Key", "l")])
            #expect(other.status == 201, "another key is nobody else's")
            try await first.send(rest)
            try await first.until("HTTP/1.1 201 ")
            let used = try await bridge.upload([1], ["file_path": "b.bin"], [("Idempotency-Key", "k")])
            #expect(used.status == 422 && used.errorCode == "idempotency_key_reuse")
        }
    }

    /// One that breaks off uses no key up.
    @Test func theKeyOfAnUploadThatBrokeOffIsFreeAgain() async throws {
        try await withBridge([], ["--comfyui", "http://127.0.0.1:1"], waitUntilReady: false) { bridge in
            let broken = try await RawExchange(bridge).send(
                "POST /api/v2/assets HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\nContent-Type: multipart/form-data; boundary=b\r\n"
                    + "Expect: 100-continue\r\nContent-Length: 1000\r\n\r\n")
            try await broken.until("HTTP/1.1 100 Continue")
            try await broken.close()
            try await bridge.until("its leaving is noticed") {
                let answer = try await $0.upload([1], ["file_path": "b.bin"], [("Idempotency-Key", "k")])
                if answer.errorCode != "idempotency_key_busy" { #expect(answer.status == 201) }
                return answer.errorCode != "idempotency_key_busy"
            }
        }
    }
}

/// A connection of a client that writes its bytes itself.
private struct RawExchange: Sendable {
    private let channel: any Channel
    private let received: AsyncStream<ByteBuffer>

    init(_ bridge: RunningBridge) async throws {
        let address = try SocketAddress(ipAddress: "127.0.0.1", port: try #require(URL(string: bridge.base)?.port))
        let (received, receipt) = AsyncStream.makeStream(of: ByteBuffer.self)
        self.received = received
        channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .channelInitializer { channel in channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Receiver(receipt)) } }
            .connect(to: address).get()
    }

    private final class Receiver: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let receipt: AsyncStream<ByteBuffer>.Continuation

        init(_ receipt: AsyncStream<ByteBuffer>.Continuation) { self.receipt = receipt }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) { receipt.yield(unwrapInboundIn(data)) }
        func channelInactive(context: ChannelHandlerContext) { receipt.finish() }
        func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }
    }

    @discardableResult
    func send(_ text: String) async throws -> RawExchange {
        try await channel.writeAndFlush(ByteBuffer(string: text))
        return self
    }

    /// Reads until the text has come.
    func until(_ text: String) async throws {
        var all = ""
        for await piece in received {
            all += String(buffer: piece)
            if all.contains(text) { return }
        }
        Issue.record("closed before '\(text)': \(all)")
    }

    func untilClosed() async throws -> String {
        var all = ""
        for await piece in received { all += String(buffer: piece) }
        return all
    }

    func close() async throws { try await channel.close() }
}
