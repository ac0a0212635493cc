import NIOCore
import PreviewStamp

/// What all viewers of a run share: the previews, and what is counted. On the load loop.
final class Audience {
    enum Dialect {
        /// Named events with ids, and a `status` at the end.
        case bridge
        /// A stamped picture in base64 for each event, and nothing else.
        case plain
    }

    let dialect: Dialect
    let library: FrameLibrary?
    /// Whether events name the URLs of previews, which are then fetched.
    let fetchesPreviews: Bool
    /// Those that read to the end.
    let readers: Int
    let opened: Countdown
    let ended: Countdown
    private(set) var latencies = Latencies()
    private(set) var delivered = 0
    private(set) var events = 0
    private(set) var heartbeats = 0
    private(set) var bytes = 0
    /// Previews that the server told viewers they would not get.
    private(set) var droppedTold = 0
    private(set) var complaints = Complaints()
    /// Called when every reader has had a preview.
    var onComplete: (Frame) -> Void = { _ in }
    /// Called when a viewer has met something wrong, and is gone.
    var onLoss: () -> Void = {}

    init(_ dialect: Dialect, library: FrameLibrary?, fetchesPreviews: Bool = false, readers: Int, slow: Int = 0) {
        self.dialect = dialect
        self.fetchesPreviews = fetchesPreviews
        self.library = library
        self.readers = readers
        opened = Countdown(readers + slow)
        ended = Countdown(readers)
    }

    var previewEvent: String { dialect == .bridge ? "preview" : "" }

    func received(bytes: Int) { self.bytes += bytes }
    func receivedEvent() { events += 1 }
    func receivedHeartbeat() { heartbeats += 1 }
    func wasTold(dropped: Int) { droppedTold += dropped }

    func complain(_ text: String) {
        complaints.add(text)
        onLoss()
    }

    /// - Parameter counts: whether the viewer was there when it was sent.
    func received(_ frame: Frame, counts: Bool) {
        let now = MonotonicClock.now
        frame.received(at: now)
        if counts {
            delivered += 1
            latencies.record(from: frame.stamp.sentAt, to: now)
        }
        guard frame.receivers == readers else { return }
        frame.forgetText()
        onComplete(frame)
    }

    /// Per preview: until the first viewer had it, and until the last of those who got it had it.
    var firstAndLast: (first: Latencies, last: Latencies) {
        var first = Latencies(), last = Latencies()
        for frame in library?.frames.values ?? [:].values {
            guard let received = frame.firstReceived else { continue }
            first.record(from: frame.stamp.sentAt, to: received)
            last.record(from: frame.stamp.sentAt, to: frame.lastReceived)
        }
        return (first, last)
    }
}
