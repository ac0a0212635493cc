import Testing

@testable import Bridge

/// When a ComfyUI counts as stuck: limits of 6 s for a start and 100 s for a node at work, looks at the given seconds.
@Suite struct PulseTests {
    enum Seen: Sendable {
        /// Waiting, behind another prompt or behind none.
        case behind, nobody
        case running(silence: Int, begun: Bool)
        case touchLost
    }

    @Test("What the books show, and when it is doubted", arguments: [
        ([(0, .behind), (1000, .behind)], nil),
        ([(0, .nobody), (5, .nobody)], nil),
        ([(0, .nobody), (6, .nobody)], .nothingRuns),
        // Between two prompts nothing runs for a moment.
        ([(0, .nobody), (3, .behind), (6, .nobody), (9, .nobody)], nil),
        ([(0, .nobody), (3, .touchLost), (6, .nobody)], nil),
        ([(0, .running(silence: 0, begun: false)), (5, .running(silence: 5, begun: false))], nil),
        ([(0, .running(silence: 0, begun: false)), (6, .running(silence: 6, begun: false))], .neverBegan),
        // A node that says nothing is normal.
        ([(0, .running(silence: 0, begun: true)), (99, .running(silence: 99, begun: true))], nil),
        ([(0, .running(silence: 0, begun: true)), (100, .running(silence: 100, begun: true))], .silent(.seconds(100))),
        ([(0, .running(silence: 0, begun: true)), (100, .running(silence: 3, begun: true))], nil),
        // It waited long in silence before it ran.
        ([(0, .behind), (200, .running(silence: 200, begun: true))], nil),
        ([(0, .behind), (200, .running(silence: 200, begun: false)), (207, .running(silence: 207, begun: false))], .neverBegan),
        // Away from ComfyUI nothing can be heard.
        ([(0, .running(silence: 0, begun: true)), (50, .touchLost), (120, .running(silence: 120, begun: true))], nil),
    ] as [([(Int, Seen)], Pulse.Doubt?)])
    func table(_ looks: [(second: Int, seen: Seen)], _ expected: Pulse.Doubt?) {
        var pulse = Pulse(limits: .init(start: .seconds(6), work: .seconds(100)))
        let start = ContinuousClock.now
        var doubts: [Pulse.Doubt?] = []
        for (second, seen) in looks {
            let now = start + .seconds(second)
            switch seen {
            case .behind: doubts.append(pulse.judge(.waiting(isAnythingRunning: true), silence: .seconds(second), mayHaveBegun: false, at: now))
            case .nobody: doubts.append(pulse.judge(.waiting(isAnythingRunning: false), silence: .seconds(second), mayHaveBegun: false, at: now))
            case .running(let silence, let begun): doubts.append(pulse.judge(.running, silence: .seconds(silence), mayHaveBegun: begun, at: now))
            case .touchLost: pulse.lostTouch()
            }
        }
        #expect(doubts.last == expected)
        #expect(doubts.dropLast().allSatisfy { $0 == nil })
    }

    @Test func withoutALimitANodeMayBeSilentForEver() {
        var pulse = Pulse(limits: .init(start: .seconds(6), work: nil))
        let start = ContinuousClock.now
        let doubts = [0, 100_000, 200_000].map { pulse.judge(.running, silence: .seconds($0), mayHaveBegun: true, at: start + .seconds($0)) }
        #expect(doubts == [nil, nil, nil])
    }
}
