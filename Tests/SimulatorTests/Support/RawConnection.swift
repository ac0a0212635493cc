import NIOCore
import NIOPosix

/// Bytes in, bytes out, for what an HTTP client would not send.
enum RawConnection {
    /// Sends the text and returns all that comes back until the server closes, or until `end` has come.
    static func exchange(_ text: String, port: Int, until end: String? = nil) async throws -> String {
        let channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .connect(host: "127.0.0.1", port: port) { channel in
                channel.eventLoop.makeCompletedFuture {
                    try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                }
            }
        return try await channel.executeThenClose { inbound, outbound in
            try await outbound.write(ByteBuffer(string: text))
            var received = ByteBuffer()
            for try await part in inbound {
                received.writeImmutableBuffer(part)
                if let end, String(buffer: received).contains(end) { break }
            }
            return String(buffer: received)
        }
    }
}
