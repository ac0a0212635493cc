import NIOCore
import NIOHTTP1
import NIOPosix
import OrderedCollections
import OrderedJSON

/// The least that can stand between `POST /run` and ComfyUI: hands the workflow on as it came, waits for the end on a socket of its own for each
/// connection, asks for the picture to know its size, and answers. It reads no workflow, keeps nothing, and knows of one caller, one job and one
/// output at a time: the floor for a bridge's latency and for what it costs.
actor Relay {
    private let comfyUI: Target

    nonisolated var unownedExecutor: UnownedSerialExecutor { LoadLoop.executor }

    init(to comfyUI: Target) { self.comfyUI = comfyUI }

    /// On a free port of the loopback interface, which is told on standard output, until the process ends.
    func serve() async throws {
        let server = try await ServerBootstrap(group: LoadLoop.loop)
            .serverChannelOption(.backlog, value: 1024)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .bind(host: "127.0.0.1", port: 0) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                    return try NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>(wrappingChannelSynchronously: channel)
                }
            }
        Output.line("listening on http://127.0.0.1:\(server.channel.localAddress?.port ?? 0)")
        try await server.executeThenClose { connections in
            try await withThrowingDiscardingTaskGroup { group in
                // What goes wrong closes that connection alone; its caller, `run`, complains of the missing answer and fails the measurement.
                for try await connection in connections { group.addTask { try? await self.serve(connection) } }
            }
        }
    }

    private func serve(_ connection: NIOAsyncChannel<HTTPServerRequestPart, HTTPServerResponsePart>) async throws {
        try await connection.executeThenClose { requests, answers in try await self.answer(requests, answers) }
    }

    private func answer(
        _ requests: NIOAsyncChannelInboundStream<HTTPServerRequestPart>, _ answers: NIOAsyncChannelOutboundWriter<HTTPServerResponsePart>
    ) async throws {
        let caller = try await DirectCaller.connect(comfyUI, on: LoadLoop.loop)
        defer { caller.close() }
        var graph: [UInt8] = []
        for try await part in requests {
            switch part {
            case .head: graph = []
            case .body(let bytes): graph += bytes.readableBytesView
            case .end:
                _ = try await caller.run(graph)
                let picture = try await caller.fetchPicture()
                let output: JSON = ["url": .string(picture.path), "size_bytes": .number(JSONNumber(picture.size))]
                let body = JSON.object(["status": "succeeded", "outputs": [output]]).encoded()
                let fields: HTTPHeaders = ["Content-Type": "application/json", "Content-Length": "\(body.count)"]
                try await answers.write(contentsOf: [
                    .head(HTTPResponseHead(version: .http1_1, status: .ok, headers: fields)), .body(.byteBuffer(ByteBuffer(bytes: body))), .end(nil),
                ])
            }
        }
    }
}
