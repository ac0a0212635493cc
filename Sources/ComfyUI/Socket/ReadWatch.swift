import NIOCore

/// Tells that bytes have arrived, whatever they are, and only after the frames that they complete: while a large frame comes in, everything else
/// waits behind it. Sits nearest to the network.
final class ReadWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// Called after each burst of reads.
    var onReads: (() -> Void)?
    private var hasRead = false

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        hasRead = true
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()  // TLS hands on what it has read only now
        guard hasRead else { return }
        hasRead = false
        onReads?()
    }
}
