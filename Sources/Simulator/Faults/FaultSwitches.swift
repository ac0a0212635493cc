import Synchronization

/// The faults of a simulator, armed and disarmed from any thread; they outlive its restarts.
package final class FaultSwitches: Sendable {
    private let faults: Mutex<Faults>
    /// A bit for each kind that is armed. Zero nearly always, and then the only thing that is ever looked at.
    private let kinds = Atomic<UInt64>(0)
    /// How far the clock of timestamps is off, in milliseconds.
    private let clockOffset = Atomic<Int>(0)
    private let changes: Changes

    init(seed: UInt64, changes: Changes) {
        faults = Mutex(Faults(seed: seed))
        self.changes = changes
    }

    // MARK: Arming

    /// `arm(.cut(.end), only: "portrait", times: 1)`
    package func arm(_ fault: Fault, only: String? = nil, times: Int? = nil, probability: Double = 1) {
        arm(FaultOrder(fault, only: only, times: times, probability: probability))
    }

    package func arm(_ order: FaultOrder) { change { $0.arm(order) } }

    /// Disarms everything and sets the clock right. What already happened to a socket or the worker stays so.
    package func clear() {
        change { $0.clear() }
        clockOffset.store(0, ordering: .relaxed)
    }

    package var armed: [Faults.Armed] { faults.withLock { $0.armed } }
    package var fired: [Fault.Kind: Int] { faults.withLock { $0.fired } }

    private func change<R: Sendable>(_ body: (inout Faults) -> R) -> R {
        faults.withLock { faults in
            defer { kinds.store(faults.armed.reduce(0) { $0 | $1.order.fault.kind.bit }, ordering: .releasing) }
            return body(&faults)
        }
    }

    // MARK: Striking

    func isArmed(any kinds: UInt64) -> Bool { self.kinds.load(ordering: .acquiring) & kinds != 0 }

    func strike(_ kind: Fault.Kind, at moment: Moment? = nil, choices: [String]? = nil, subject: () -> String) -> Fault? {
        guard isArmed(any: .max), isArmed(any: kind.bit) else { return nil }
        guard let fault = change({ $0.strike(kind, at: moment, choices: choices, subject: subject) }) else { return nil }
        changes.note()
        return fault
    }

    /// Unix time in milliseconds, as the simulated machine has it.
    func now(subject: () -> String) -> Int {
        if let jump = strike(.clock, subject: subject)?.number { clockOffset.add(jump, ordering: .relaxed) }
        return WallClock.milliseconds() + clockOffset.load(ordering: .relaxed)
    }
}

extension Fault.Kind {
    /// Its place in a set of kinds.
    var bit: UInt64 { 1 << UInt64(Self.numbers[self] ?? 0) }

    private static let numbers = Dictionary(uniqueKeysWithValues: allCases.enumerated().map { ($1, $0) })
}
