/// How long a connection may keep the server waiting, for what it waits for at the moment. A value without a clock: `Connection.look`
/// gives it the time and the bytes so far.
struct Patience: Sendable {
    /// What the connection has to do next.
    enum Subject: Sendable, Equatable {
        /// Nothing: it waits for the server.
        case nothing
        /// Send a request. Counted are the bytes that it has sent in all.
        case request
        /// Send the rest of a body. Counted are those of the body.
        case body
        /// Read its answer. Counted is what it has acknowledged.
        case answer
    }

    enum Verdict: Sendable, Equatable {
        case wait
        /// No request has come, not even the first byte of one.
        case idle
        /// The head or the body comes too slowly.
        case late
        /// Nothing of the answer was taken.
        case stalled
    }

    struct Limits: Sendable, Equatable {
        /// Zero is for ever, here and everywhere.
        var idle: Duration
        /// From the first byte of a head to its end.
        var head: Duration
        /// A body has to come at `bodyRate` bytes per second, over each such time.
        var body: Duration
        var bodyRate: Int
        /// Without progress of an answer. While connections are short, `idle` is enough.
        var stall: Duration

        /// Often enough for each of them.
        var interval: Duration {
            let shortest = [idle, head, body, stall].filter { $0 > .zero }.min() ?? .seconds(8)
            return min(max(shortest / 8, .milliseconds(10)), .seconds(2))
        }
    }

    private var subject: Subject
    /// The first bytes of a head have come.
    private var hasBegun = false
    private var since: ContinuousClock.Instant
    private var mark: UInt64

    init(for subject: Subject, at count: UInt64, since now: ContinuousClock.Instant) {
        (self.subject, mark, since) = (subject, count, now)
    }

    /// - Parameter isShort: there are few connections left.
    mutating func look(for subject: Subject, at count: UInt64, now: ContinuousClock.Instant, _ limits: Limits, isShort: Bool) -> Verdict {
        func isOver(_ limit: Duration) -> Bool { limit > .zero && now - since >= limit }
        guard subject == self.subject else {
            self = Patience(for: subject, at: count, since: now)
            return .wait
        }
        switch subject {
        case .nothing: break
        case .request where hasBegun: if isOver(limits.head) { return .late }
        case .request where count == mark: if isOver(limits.idle) { return .idle }
        case .request: (hasBegun, since) = (true, now)
        case .body:
            guard isOver(limits.body) else { break }
            if Double(count &- mark) < Double(limits.bodyRate) * limits.body.seconds { return .late }
            (since, mark) = (now, count)
        case .answer where count != mark: (since, mark) = (now, count)
        case .answer: if isOver(limits.stall) || (isShort && isOver(limits.idle)) { return .stalled }
        }
        return .wait
    }
}
