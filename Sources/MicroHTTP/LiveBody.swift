import CMicroHTTPD
import Glibc
import Synchronization

/// A body that is made while it is sent, such as an event stream: whoever waits for it has what there is at once.
///
/// It goes past libmicrohttpd, which sends the head, has its connection suspended meanwhile, and sends the end. A `StreamSender` writes the
/// pieces in between into the socket from where they are, so that thousands of viewers of one event share its bytes, and each costs
/// one system call. (Through libmicrohttpd a piece is copied into the buffer of each connection, a buffer at a time, and each event takes
/// the connection into its epoll and out again.)
final class LiveBody: SourceBody {
    /// What is being sent; used by the sender's thread only, the lock is never contended.
    private struct Piece {
        var bytes: [UInt8] = []
        /// Of the piece as it is on the wire.
        var offset = 0
        var isFirst = true
    }

    /// Bytes after which it is others' turn.
    private static let share = 256 * 1024

    /// Of the connection.
    let id: UInt64
    let descriptor: Int32
    private let connection: ConnectionHandle
    private let source: any BodySource
    private let isChunked: Bool
    private let sender: StreamSender
    private let machine = Mutex(LiveMachine())
    private let piece = Mutex(Piece())
    private let drained = Atomic(false)

    init(_ source: any BodySource, isChunked: Bool, connection: Connection, sender: StreamSender) {
        self.source = source
        self.isChunked = isChunked
        id = connection.id
        descriptor = connection.descriptor
        self.connection = connection.handle
        self.sender = sender
    }

    func attach() {
        source.attach { [weak self] in self?.wake() }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        Allocator.giveBack(buffer)  // the memory of the connection, which is not needed while this body lasts
        let end = machine.withLock { machine in
            let end = machine.begin()
            if end == nil { connection.suspend() }
            return end
        }
        switch end {
        case nil:
            enqueue()
            return 0
        case .completed: return cmhd_end_of_stream()
        case .disconnected, .stopped: return cmhd_end_with_error()
        }
    }

    private func wake() {
        if machine.withLock({ $0.wake() }) { enqueue() }
    }

    /// A sender that has stopped takes nothing: the body ends here then.
    private func enqueue() {
        if !sender.enqueue(self) { finish(.stopped) }
    }

    func cut(_ reason: BodyEnd) {
        machine.withLock {
            switch $0.cut(reason) {
            case .nothing: break
            case .resume: connection.resume()
            case .resumeUnwatched:
                sender.unwatch(self)
                connection.resume()
            }
        }
    }

    func drain() {
        if drained.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged { source.drain() }
    }

    func close(_ reason: BodyEnd) {
        if let reason = machine.withLock({ $0.close(reason) }) { source.closed(reason) }
    }

    // MARK: On the sender's thread

    /// Sends what there is, as far as the socket takes it.
    ///
    /// - Returns: whether to call it again, after others.
    func serve() -> Bool {
        piece.withLock { piece in
            var sent = 0
            while true {
                guard machine.withLock({ $0.serve() }) else { return finish(.disconnected) }
                if piece.bytes.isEmpty {
                    guard sent < Self.share else { return pause { $0.yield() } }
                    switch source.next() {
                    case .bytes(let bytes) where bytes.isEmpty: return pause { $0.yield() }
                    case .bytes(let bytes): piece.bytes = bytes
                    case .pending:
                        if piece.isFirst { begin(&piece) }
                        return pause { $0.pause() }
                    case .finished: return finish(.completed)
                    case .failed: return finish(.disconnected)
                    }
                }
                sent += piece.bytes.count - piece.offset
                guard let isWhole = send(&piece) else { return finish(.disconnected) }
                if piece.isFirst { begin(&piece) }
                guard isWhole else { return pauseUntilWritable() }
                (piece.bytes, piece.offset) = ([], 0)
            }
        }
    }

    /// From the watch over full sockets.
    ///
    /// - Returns: whether it is to be served.
    func roomMade() -> Bool {
        machine.withLock { machine in
            guard machine.roomMade() else { return false }
            sender.unwatch(self)
            return true
        }
    }

    /// The head lies in the socket and waits for the first piece, to go with it; from here on nothing waits for anything.
    private func begin(_ piece: inout Piece) {
        piece.isFirst = false
        connection.sendWithoutDelay()
    }

    private func pause(_ change: (inout LiveMachine) -> LiveMachine.Pause) -> Bool {
        machine.withLock { machine in
            switch change(&machine) {
            case .rest: return false
            case .again: return true
            case .end:
                connection.resume()
                return false
            }
        }
    }

    private func pauseUntilWritable() -> Bool {
        pause { machine in
            let pause = machine.fill()
            guard pause == .rest, !sender.watch(self) else { return pause }
            return machine.end(.disconnected)
        }
    }

    @discardableResult
    private func finish(_ end: BodyEnd) -> Bool {
        pause { $0.end(end) }
    }

    /// - Returns: whether all of it is sent; nil if the connection is broken.
    private func send(_ piece: inout Piece) -> Bool? {
        let bytes = piece.bytes
        return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 24) { frame in
            let head = isChunked ? Self.writeChunkHead(bytes.count, into: frame) : 0
            let tail = isChunked ? 2 : 0
            let parts = (
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(frame)[..<head]),
                UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(frame)[(head - tail)..<head])  // a head ends as a piece does
            )
            let count = bytes.withUnsafeBytes { Self.send(parts.0, $0, parts.1, from: piece.offset, to: descriptor) }
            guard let count else { return nil }
            piece.offset += count
            return piece.offset == head + bytes.count + tail
        }
    }

    /// Size in hexadecimal and the end of the line (RFC 9112, section 7.1).
    ///
    /// - Returns: the number of bytes.
    private static func writeChunkHead(_ size: Int, into buffer: UnsafeMutableBufferPointer<UInt8>) -> Int {
        let digits = (size.bitWidth - size.leadingZeroBitCount + 3) / 4
        for index in 0..<digits {
            let digit = UInt8(truncatingIfNeeded: size >> ((digits - 1 - index) * 4)) & 15
            buffer[index] = digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
        }
        (buffer[digits], buffer[digits + 1]) = (UInt8(ascii: "\r"), UInt8(ascii: "\n"))
        return digits + 2
    }

    /// - Returns: how much the socket took of what lies behind `offset` in the three together; nil if it is broken.
    private static func send(
        _ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer, _ tail: UnsafeRawBufferPointer, from offset: Int, to descriptor: Int32
    ) -> Int? {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: 3) { vectors in
            var (skipped, count) = (offset, 0)
            for part in [head, body, tail] {
                if skipped < part.count {
                    vectors[count] = iovec(iov_base: UnsafeMutableRawPointer(mutating: part.baseAddress! + skipped), iov_len: part.count - skipped)
                    count += 1
                }
                skipped = max(0, skipped - part.count)
            }
            var message = msghdr()
            message.msg_iov = vectors.baseAddress
            message.msg_iovlen = count
            while true {
                let sent = sendmsg(descriptor, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                if sent >= 0 { return sent }
                if errno == EAGAIN { return 0 }
                guard errno == EINTR else { return nil }
            }
        }
    }
}
