/// A question to ComfyUI's books about one prompt. One at a time is under way.
enum Inquiry: Sendable {
    case none
    case underWay(since: ContinuousClock.Instant)
    /// Something has happened since which the answer may not know.
    case stale(since: ContinuousClock.Instant)

    /// How long ComfyUI has not answered; nil when it was not asked.
    func age(at now: ContinuousClock.Instant) -> Duration? {
        switch self {
        case .none: nil
        case .underWay(let since), .stale(let since): now - since
        }
    }

    /// Something has happened that the books may know. Returns whether to ask now.
    mutating func open(at now: ContinuousClock.Instant) -> Bool {
        switch self {
        case .none:
            self = .underWay(since: now)
            return true
        case .underWay(let since), .stale(let since):
            self = .stale(since: since)
            return false
        }
    }

    /// ComfyUI has answered, or could not be asked. Returns whether to ask again.
    mutating func close(at now: ContinuousClock.Instant) -> Bool {
        switch self {
        case .none, .underWay:
            self = .none
            return false
        case .stale:
            self = .underWay(since: now)
            return true
        }
    }
}
