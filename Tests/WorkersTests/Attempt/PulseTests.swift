import Testing

@testable import Workers

/// When a ComfyUI counts as stuck: limits of 6 s for a start and 100 s for a node at work, looks at the given seconds.
@Suite struct PulseTests {
    enum Seen: Sendable, Equatable {
        /// Waiting, behind another prompt or behind none.
        case behind, nobody
        case running(silence: Int, begun: Bool)
        case touchLost
        /// Waiting behind a prompt of somebody else.
        case stranger(String)
    }

    private static let start = ContinuousClock.now

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
        // Of a prompt of somebody else nothing is ever heard: it counts how long it stays there.
        ([(0, .stranger("a")), (99, .stranger("a"))], nil), ([(0, .stranger("a")), (100, .stranger("a"))], .behind(promptID: "a", since: PulseTests.start)),
        ([(0, .stranger("a")), (60, .stranger("b")), (159, .stranger("b"))], nil),
        ([(0, .stranger("a")), (60, .stranger("b")), (160, .stranger("b"))], .behind(promptID: "b", since: PulseTests.start + .seconds(60))),
        ([(0, .stranger("a")), (60, .behind), (120, .stranger("a"))], nil), ([(0, .stranger("a")), (60, .nobody), (120, .stranger("a"))], nil),
        // The same prompt seen twice has not moved in between, whatever became of the socket.
        ([(0, .stranger("a")), (50, .touchLost), (100, .stranger("a"))], .behind(promptID: "a", since: PulseTests.start)),
        ([(0, .stranger("a")), (90, .running(silence: 90, begun: false)), (95, .running(silence: 95, begun: true))], nil),
    ] as [([(Int, Seen)], Pulse.Doubt?)])
    func table(_ looks: [(second: Int, seen: Seen)], _ expected: Pulse.Doubt?) {
        var pulse = Pulse(limits: .init(start: .seconds(6), work: .seconds(100)))
        let start = Self.start
        var doubts: [Pulse.Doubt?] = []
        for (second, seen) in looks {
            let now = start + .seconds(second)
            func judge(_ verdict: Reconciliation, _ silence: Int? = nil, _ begun: Bool = false) {
                doubts.append(pulse.judge(verdict, silence: .seconds(silence ?? second), mayHaveBegun: begun, isBehindOwn: seen == .behind, at: now))
            }
            switch seen {
            case .behind: judge(.waiting(behind: "own"))
            case .stranger(let promptID): judge(.waiting(behind: promptID))
            case .nobody: judge(.waiting(behind: nil))
            case .running(let silence, let begun): judge(.running, silence, begun)
            case .touchLost: pulse.lostTouch()
            }
        }
        #expect(doubts.last == expected)
        #expect(doubts.dropLast().allSatisfy { $0 == nil })
    }

    @Test func withoutALimitANodeMayBeSilentForEver() {
        var pulse = Pulse(limits: .init(start: .seconds(6), work: nil))
        let start = ContinuousClock.now
        for verdict in [Reconciliation.running, .waiting(behind: "a")] {
            let doubts = [0, 100_000, 200_000].map { pulse.judge(verdict, silence: .seconds($0), mayHaveBegun: true, isBehindOwn: false, at: start + .seconds($0)) }
            #expect(doubts == [nil, nil, nil])
        }
        #expect(pulse.head?.promptID == "a")
    }
}
