import Testing

@testable import Workers

/// When a connection counts as one that ComfyUI does not send to any more.
@Suite struct RegistrationProofTests {
    enum Step: Sendable {
        case connect, disconnect, flags, message
        /// A part of a message that is not complete.
        case part
        /// A submit begins; ComfyUI has taken it.
        case submit, accepted
        /// Time passes, in tenths of the limit.
        case wait(Int)
    }

    enum Expected: Sendable { case nothingDue, waits, replace }

    @Test("What is due, and what proves the registration", arguments: [
        ([.connect], .nothingDue),
        ([.connect, .flags], .nothingDue),
        // An idle connection is not asked, however long it is silent.
        ([.connect, .flags, .wait(1000)], .nothingDue),
        ([.connect, .submit, .accepted], .waits),
        ([.connect, .submit, .accepted, .wait(9)], .waits),
        ([.connect, .submit, .accepted, .wait(10)], .replace),
        ([.connect, .submit, .accepted, .message, .wait(10)], .nothingDue),
        // The status may overtake the answer to the submit.
        ([.connect, .submit, .message, .accepted, .wait(10)], .nothingDue),
        // What came before the submit proves nothing about now.
        ([.connect, .message, .submit, .accepted, .wait(10)], .replace),
        // The status may wait behind a large frame, for as long as that takes.
        ([.connect, .submit, .accepted, .wait(9), .part, .wait(9), .part, .wait(9)], .waits),
        ([.connect, .submit, .part, .accepted, .wait(9), .part, .wait(10)], .replace),
        ([.connect, .flags, .part, .wait(10)], .nothingDue),
        // A refused submit changes no queue.
        ([.connect, .submit, .wait(10)], .nothingDue),
        // The first that was not answered counts.
        ([.connect, .submit, .accepted, .wait(6), .submit, .accepted, .wait(4)], .replace),
        ([.connect, .submit, .accepted, .message, .wait(6), .submit, .accepted, .wait(4)], .waits),
        // The status went to the connection before, or to none.
        ([.connect, .submit, .disconnect, .accepted, .wait(10)], .nothingDue),
        ([.connect, .submit, .disconnect, .connect, .accepted, .wait(10)], .nothingDue),
        ([.connect, .submit, .accepted, .disconnect, .wait(10)], .nothingDue),
        ([.connect, .submit, .accepted, .disconnect, .connect, .wait(10)], .nothingDue),
        // From a ComfyUI that answers flags the answer is due at every connect.
        ([.connect, .flags, .disconnect, .connect], .waits),
        ([.connect, .flags, .disconnect, .connect, .wait(10)], .replace),
        ([.connect, .flags, .disconnect, .connect, .flags, .wait(10)], .nothingDue),
        ([.connect, .flags, .disconnect, .connect, .message, .wait(10)], .nothingDue),
    ] as [([Step], Expected)])
    func table(_ steps: [Step], _ expected: Expected) {
        var proof = RegistrationProof()
        let start = ContinuousClock.now
        let limit = Duration.seconds(10)
        var now = start
        var ticket = proof.ticket
        for step in steps {
            switch step {
            case .connect: proof.connected(at: now)
            case .disconnect: proof.disconnected()
            case .flags: proof.received(isFlags: true)
            case .message: proof.received(isFlags: false)
            case .part: proof.receiving(at: now)
            case .submit: ticket = proof.ticket
            case .accepted: proof.accepted(ticket, at: now)
            case .wait(let tenths): now = now + limit * tenths / 10
            }
        }
        let isDue = proof.startsWatch()
        #expect(isDue == (expected != .nothingDue))
        switch proof.watch(at: now, limit: limit) {
        case .rest: #expect(expected == .nothingDue)
        case .wait(let until):
            #expect(expected == .waits)
            #expect(until > now && until <= now + limit)
        case .replace: #expect(expected == .replace)
        }
    }

    @Test func onlyOneWatches() {
        var proof = RegistrationProof()
        let now = ContinuousClock.now
        proof.connected(at: now)
        proof.accepted(proof.ticket, at: now)
        var starts = [proof.startsWatch(), proof.startsWatch()]
        proof.received(isFlags: false)
        // Something new is due before the watch looks: it goes on with that.
        proof.accepted(proof.ticket, at: now + .seconds(1))
        starts.append(proof.startsWatch())
        let looks = [2, 3].map { proof.watch(at: now + .seconds($0), limit: .seconds(2)) }
        #expect(looks == [.wait(until: now + .seconds(3)), .replace])
        // The same silence is not answered twice, the next one is.
        starts.append(proof.startsWatch())
        proof.accepted(proof.ticket, at: now + .seconds(4))
        starts.append(proof.startsWatch())
        #expect(starts == [true, false, false, false, true])
    }
}
