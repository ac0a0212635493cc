import Testing

@testable import Workers

/// When a ComfyUI is given jobs: 10 s of pause after a fault of the device, longer after each try in vain.
@Suite struct RotationTests {
    enum Step: Sendable {
        case device, stuck(String?), behind(String)
        case succeeded, ended, gave, connected
        case looked(running: Set<String>, pending: Bool)
        case wait(Int)
    }

    @Test("After what, with how many inside, jobs are given", arguments: [
        ([], 1, true), ([.device], 0, false), ([.device, .wait(9)], 0, false), ([.device, .wait(10)], 0, true),
        // One at a time.
        ([.device, .wait(10)], 1, false), ([.device, .wait(10), .gave], 0, false),
        // What ended without success proves nothing: the next may try.
        ([.device, .wait(10), .gave, .ended], 0, true),
        ([.device, .wait(10), .gave, .succeeded], 1, true),
        // In vain: twice as long.
        ([.device, .wait(10), .gave, .device, .wait(19)], 0, false), ([.device, .wait(10), .gave, .device, .wait(20)], 0, true),
        ([.device, .wait(10), .gave, .device, .wait(20), .gave, .device, .wait(39)], 0, false),
        // The second job that was inside fails too.
        ([.device, .device, .wait(10)], 0, true),
        // A job that was inside succeeds after all.
        ([.device, .succeeded], 1, true),
        // It may be a new process.
        ([.device, .connected], 0, true), ([.device, .connected], 1, false),
        ([.stuck("a"), .wait(1000)], 0, false), ([.stuck("a"), .connected], 0, false),
        ([.stuck("a"), .looked(running: ["a"], pending: false)], 0, false), ([.stuck("a"), .looked(running: [], pending: true)], 0, true),
        ([.stuck("a"), .looked(running: ["b"], pending: true)], 0, true), ([.stuck("a"), .looked(running: [], pending: false)], 1, false),
        ([.stuck(nil), .looked(running: [], pending: true)], 0, false), ([.stuck(nil), .looked(running: [], pending: false)], 0, true),
        ([.stuck(nil), .looked(running: ["b"], pending: true)], 0, true),
        // A stuck one is no better for an error of the device before.
        ([.device, .stuck("a"), .wait(1000)], 0, false), ([.stuck("a"), .device, .wait(1000)], 0, false),
        ([.stuck("a"), .looked(running: [], pending: false), .gave, .stuck("b")], 0, false),
        // In a prompt of somebody else: until that has gone, and then without a doubt.
        ([.behind("a"), .wait(1000)], 0, false), ([.behind("a"), .looked(running: ["a"], pending: true)], 0, false), ([.behind("a"), .connected], 0, false),
        ([.behind("a"), .device, .wait(1000)], 0, false), ([.behind("a"), .looked(running: ["b"], pending: true)], 1, true),
        ([.behind("a"), .looked(running: [], pending: false)], 1, true),
    ] as [([Step], Int, Bool)])
    func table(_ steps: [Step], _ open: Int, _ isGiven: Bool) {
        var rotation = Rotation(pause: .seconds(10))
        var now = ContinuousClock.now
        for step in steps {
            switch step {
            case .device: rotation.failed(.device("illegal memory access"), at: now)
            case .stuck(let promptID): rotation.failed(.stuck("nothing runs", promptID: promptID), at: now)
            case .behind(let promptID): rotation.failed(.behind(promptID: promptID, since: now), at: now)
            case .succeeded: rotation.succeeded()
            case .ended: rotation.ended(at: now)
            case .gave: rotation.gave()
            case .connected: rotation.connected(at: now)
            case .looked(let running, let pending): rotation.saw((running, pending), at: now)
            case .wait(let seconds): now = now + .seconds(seconds)
            }
        }
        #expect(rotation.allows(at: now, open: open) == isGiven)
        let isHealed = if case .behind? = steps.first, isGiven { true } else { false }
        let isFaulty: Bool = switch steps.last { case nil, .succeeded?: false; default: !isHealed }
        #expect((rotation.fault != nil) == isFaulty)
        #expect((rotation.faultySince != nil) == isFaulty)
    }

    @Test func saysWhenToLookAgain() {
        var rotation = Rotation(pause: .seconds(10))
        let now = ContinuousClock.now
        #expect(rotation.nextCheck(at: now) == nil)
        rotation.failed(.device("x"), at: now)
        #expect(rotation.nextCheck(at: now) == now + .seconds(10))
        #expect(rotation.nextCheck(at: now + .seconds(10)) == nil)
        rotation.succeeded()
        rotation.failed(.stuck("x", promptID: "a"), at: now)
        #expect(rotation.nextCheck(at: now + .seconds(100)) == now + .seconds(110))
    }

    @Test func whatCannotBeHandedOverIsTriedAtOnceAndThenEverMoreRarely() {
        var rotation = Rotation(pause: .seconds(1))
        var now = ContinuousClock.now
        var pauses: [Duration] = []
        for _ in 0..<7 {
            rotation.note(.failed, at: now)
            let next = rotation.nextCheck(at: now) ?? now
            #expect(rotation.allows(at: now, open: 0) == (next == now))
            #expect(rotation.allows(at: next, open: 1))
            pauses.append(next - now)
            now = next
        }
        #expect(pauses == [.zero, .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .seconds(1), .seconds(1)])
        #expect(rotation.fault == nil)
        rotation.note(.failed, at: now)
        rotation.connected(at: now)
        #expect(rotation.allows(at: now, open: 1))
        rotation.note(.failed, at: now)
        rotation.note(.failed, at: now)
        rotation.note(.made, at: now)
        #expect(rotation.allows(at: now, open: 1))
    }

    @Test func thePauseHasAnEnd() {
        var rotation = Rotation(pause: .seconds(1))
        var now = ContinuousClock.now
        for _ in 0..<20 {
            rotation.failed(.device("x"), at: now)
            now = rotation.nextCheck(at: now) ?? now
            rotation.gave()
        }
        rotation.failed(.device("x"), at: now)
        #expect(rotation.nextCheck(at: now) == now + .seconds(30))
    }
}
