import NIOCore

/// Tells that bytes have arrived, whatever they are, and only after the frames that they complete: while a large frame comes in, everything else
/// waits behind it. Sits nearest to the network.
final class ReadWatch: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    /// Called after each burst of reads; the argument tells whether a frame was complete with it.
    var onReads: ((Bool) -> Void)?
    private var hasRead = false
    private var hasFrame = false

    /// A frame is complete. Those that came with the handshake are handed on after its burst, and count for none.
    func noteFrame() { hasFrame = true }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        if !hasRead { (hasRead, hasFrame) = (true, false) }
        context.fireChannelRead(data)
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()  // TLS hands on what it has read only now
        guard hasRead else { return }
        hasRead = false
        onReads?(hasFrame)
    }
}
