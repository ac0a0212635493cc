import CMicroHTTPD
import Synchronization

/// A body of known length that is passed on: libmicrohttpd sends it at the pace of its reader and knows when it is whole.
final class SizedBody: SourceBody {
    /// What the content reader has of the current chunk; used by the connection's thread only, the lock is never contended.
    private struct Chunk {
        var bytes: [UInt8] = []
        var offset = 0
        var sent = 0
        var last: BodyChunk?
    }

    private let source: any BodySource
    private let length: Int
    private let connection: ConnectionHandle
    private let machine = Mutex(SizedBodyMachine())
    private let chunk = Mutex(Chunk())
    private let drained = Atomic(false)

    init(_ source: any BodySource, length: Int, connection: ConnectionHandle) {
        self.source = source
        self.length = length
        self.connection = connection
    }

    func attach() {
        source.attach { [weak self] in self?.wake() }
    }

    /// Fills `buffer` as far as the source has something, and suspends the connection when it has nothing at all.
    func read(into buffer: UnsafeMutableRawBufferPointer) -> Int {
        chunk.withLock { chunk in
            var filled = 0
            while filled < buffer.count {
                if chunk.offset < chunk.bytes.count {
                    let count = min(chunk.bytes.count - chunk.offset, buffer.count - filled)
                    chunk.bytes.withUnsafeBytes {
                        (buffer.baseAddress! + filled).copyMemory(from: $0.baseAddress! + chunk.offset, byteCount: count)
                    }
                    chunk.offset += count
                    chunk.sent += count
                    filled += count
                    if chunk.offset == chunk.bytes.count {
                        chunk.bytes = []
                        chunk.offset = 0
                    }
                    continue
                }
                guard machine.withLock({ $0.beginRead() }) else { return cmhd_end_with_error() }
                let next = chunk.last ?? source.next()
                switch next {
                case .bytes(let bytes) where !bytes.isEmpty: chunk.bytes = bytes
                case .bytes, .pending: return filled > 0 ? filled : pause(retry: next != .pending)
                case .finished, .failed:
                    chunk.last = next
                    if filled > 0 { return filled }
                    let isWhole = next == .finished && length == chunk.sent
                    return isWhole ? cmhd_end_of_stream() : cmhd_end_with_error()
                }
            }
            return filled
        }
    }

    /// - Parameter retry: ask again although nobody woke (after an empty chunk).
    /// - Returns: what the content reader returns: 0 with the connection suspended, or the end.
    private func pause(retry: Bool) -> Int {
        machine.withLock { machine in
            if retry { _ = machine.wake() }
            switch machine.pending() {
            case .suspend:
                connection.suspend()
                return 0
            case .retry:
                connection.suspend()
                connection.resume()
                return 0
            case .cut: return cmhd_end_with_error()
            }
        }
    }

    private func wake() {
        machine.withLock { if $0.wake() { connection.resume() } }
    }

    func cut(_ reason: BodyEnd) {
        machine.withLock { if $0.cut(reason) { connection.resume() } }
    }

    func drain() {
        if drained.compareExchange(expected: false, desired: true, ordering: .relaxed).exchanged { source.drain() }
    }

    func close(_ reason: BodyEnd) {
        if let reason = machine.withLock({ $0.close(reason) }) { source.closed(reason) }
    }
}
