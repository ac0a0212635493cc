import NIOCore

/// Tells that bytes have arrived, whatever they are: while a large frame comes in, the pong waits behind it. Sits nearest to the network.
final class ReadWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// Called once, at the next read.
    var onNextRead: (() -> Void)?

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        onNextRead.take()?()
        context.fireChannelRead(data)
    }
}
