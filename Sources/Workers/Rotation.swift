import Wording

/// Whether a ComfyUI is given jobs. After a fault that will hit the next job too it is given none until it may be better,
/// then one at a time, and again as many as it has room for once one has succeeded. A value, without clock or IO.
package struct Rotation: Sendable {
    package enum Fault: Sendable, Equatable {
        /// A node died of an error of the device, after which nothing works on it until ComfyUI is started anew.
        case device(String)
        /// ComfyUI's worker thread is dead or hangs. `promptID`: what it hangs in.
        case stuck(String, promptID: String?)
        /// The same, in a prompt that is not the bridge's, as far as can be said: it has been running since then.
        case behind(promptID: String, since: ContinuousClock.Instant)

        /// Nothing runs until it has ended.
        var isStandstill: Bool { if case .device = self { false } else { true } }

        /// What it is, without what to do about it.
        func cause(at now: ContinuousClock.Instant) -> String {
            switch self {
            case .device(let reason): "its device has failed (\(reason))"
            case .stuck(let reason, _): reason
            case .behind(let promptID, let since):
                "the prompt \(promptID), which is not the bridge's, has been running for \((now - since).words), longer than --upstream-stall"
            }
        }

        func words(at now: ContinuousClock.Instant) -> String {
            switch self {
            case .device: "\(cause(at: now)); restart ComfyUI"
            case .stuck: "it is stuck: \(cause(at: now)); restart ComfyUI"
            case .behind: "it is stuck: \(cause(at: now)); interrupt that prompt or restart ComfyUI"
            }
        }
    }

    enum Delivery: Sendable { case made, failed }

    private enum Phase {
        case serving
        /// Nil: until ComfyUI's queue tells that it lives.
        case resting(until: ContinuousClock.Instant?)
        /// One job is inside, to see whether it works again.
        case probing
    }

    private let firstPause: Duration
    private let longestPause: Duration
    private var phase = Phase.serving
    private var pause: Duration
    private(set) var fault: Fault?
    private(set) var faultySince: ContinuousClock.Instant?
    /// Of jobs that ComfyUI could not be handed, one after the other: the first may be tried again at once.
    private var failedDeliveries = 0
    private var deliversFrom: ContinuousClock.Instant?

    /// - Parameter pause: before the first try after an error of the device; it doubles, up to 30 times as long.
    init(pause: Duration) {
        firstPause = pause
        longestPause = pause * 30
        self.pause = pause
    }

    /// Whether a job may be given, with so many inside.
    func allows(at now: ContinuousClock.Instant, open: Int) -> Bool {
        if let deliversFrom, now < deliversFrom { return false }
        return switch phase {
        case .serving: true
        case .resting(let until?): open == 0 && now >= until
        case .resting(nil), .probing: false
        }
    }

    mutating func gave() {
        if case .resting = phase { phase = .probing }
    }

    mutating func failed(_ fault: Fault, at now: ContinuousClock.Instant) {
        switch phase {
        case .serving: pause = firstPause
        case .probing: pause = min(pause * 2, longestPause)
        case .resting: break  // of a job that was inside at the first failure
        }
        if self.fault?.isStandstill == true, !fault.isStandstill { return }
        self.fault = fault
        faultySince = faultySince ?? now
        switch fault {
        case .device: phase = .resting(until: now + pause)
        case .stuck, .behind: phase = .resting(until: nil)
        }
    }

    mutating func note(_ delivery: Delivery, at now: ContinuousClock.Instant) {
        switch delivery {
        case .made: (failedDeliveries, deliversFrom) = (0, nil)
        case .failed:
            ended(at: now)
            deliversFrom = failedDeliveries == 0 ? nil : now + min(.milliseconds(100) * (1 << min(failedDeliveries - 1, 10)), firstPause)
            failedDeliveries += 1
        }
    }

    /// A new connection: it may be a new process, whose device works.
    mutating func connected(at now: ContinuousClock.Instant) {
        note(.made, at: now)
        if case .resting(.some) = phase { phase = .resting(until: now) }
    }

    /// A job has succeeded.
    mutating func succeeded() {
        phase = .serving
        fault = nil
        faultySince = nil
    }

    /// A job has ended in another way, which proves nothing: the next may try.
    mutating func ended(at now: ContinuousClock.Instant) {
        if case .probing = phase { phase = .resting(until: now) }
    }

    /// ComfyUI's queue while nothing is given to it: once what it hung in has gone, it was started anew or has come to itself.
    mutating func saw(_ queue: (running: Set<String>, hasPending: Bool), at now: ContinuousClock.Instant) {
        guard case .resting(nil) = phase else { return }
        switch fault {
        case .stuck(_, let promptID):
            let hangs = promptID.map(queue.running.contains) ?? (queue.running.isEmpty && queue.hasPending)
            if !hangs { phase = .resting(until: now) }
        case .behind(let promptID, _):
            // It was only slow, or its owner took it away: there is no doubt left.
            if !queue.running.contains(promptID) { succeeded() }
        case .device, nil: break
        }
    }

    /// When to check again whether a job may be given; nil when that is only a matter of jobs.
    func nextCheck(at now: ContinuousClock.Instant) -> ContinuousClock.Instant? {
        if let deliversFrom, now < deliversFrom { return deliversFrom }
        return switch phase {
        case .serving, .probing: nil
        case .resting(let until?): now < until ? until : nil
        case .resting(nil): now + firstPause
        }
    }
}
