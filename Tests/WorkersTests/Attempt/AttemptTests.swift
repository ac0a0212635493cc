import Testing

@testable import Jobs
@testable import Workers
@testable import Workflow

/// Orders in which things happened once, and what an attempt wants after each.
@Suite struct AttemptTests {
    typealias Happening = AttemptScript.Happening

    struct Scene: Sendable, CustomTestStringConvertible {
        let name: String
        var entry = Attempt.Entry.submit
        var classType = "SaveImage"
        var allowsPartial = false
        /// After `begin`: what happens, and what the attempt wants.
        let steps: [(Happening, String)]

        init(_ name: String, classType: String = "SaveImage", allowsPartial: Bool = false, _ steps: [(Happening, String)]) {
            (self.name, self.classType, self.allowsPartial, self.steps) = (name, classType, allowsPartial, steps)
        }

        init(adopted name: String, runs: Bool, isConnected: Bool = true, _ steps: [(Happening, String)]) {
            (self.name, self.steps) = (name, steps)
            entry = .adopt(runningSince: runs ? AttemptTests.start - .seconds(40) : nil, isConnected: isConnected)
        }

        var testDescription: String { name }
    }

    static let start = ContinuousClock.now
    private static let socketOutput = "SaveImageWebsocket"
    private static let started = "started; limit 60.0 seconds"

    private func play(_ scene: Scene) throws {
        var script = try AttemptScript(scene.entry, classType: scene.classType, allowsPartial: scene.allowsPartial, at: Self.start)
        let first: String
        switch scene.entry {
        case .submit: first = "submit; watch"
        case .adopt(_, let isConnected): first = isConnected ? "adopted; ask (adoption); watch" : "adopted; watch"
        }
        for (index, (happening, expected)) in ([(.begin, first)] + scene.steps).enumerated() {
            let words = script.play(happening).compactMap(\.words).joined(separator: "; ")
            #expect(words == expected, "\(scene.name): step \(index), \(happening)")
        }
        guard scene.steps.last?.1.contains("end: ") == true else { return }
        for happening in [Happening.accepted, .success, .ended, .succeeded, .absent, .noVerdict, .lostTouch, .silent, .deadline, .cancel, .stuck] {
            #expect(script.play(happening).isEmpty, "\(scene.name): after the end, \(happening)")
        }
    }

    @Test("The submit and the messages", arguments: [
        Scene("Everything in its order", [
            (.accepted, "delivered"), (.start, started), (.node, ""), (.output, "collect"), (.success, "await end 0.5 seconds"), (.ended, "executed; end: succeeded"),
        ]),
        Scene("A run is over before its submit was answered", [
            (.start, started), (.output, "collect"), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.accepted, "delivered; end: succeeded"),
        ]),
        Scene("A run that is over before its submit was answered still fails when outputs were left out", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.partly, "delivered; fail invalid_workflow; end: succeeded"),
        ]),
        Scene("A run that is over needs no answer: not delivered", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.notDelivered, "end: succeeded"),
        ]),
        Scene("A run that is over needs no answer: not reached", [
            (.start, started), (.failure, "await end 0.5 seconds"), (.ended, "executed"), (.notReached, "end: failed"),
        ]),
        Scene("A run that is over needs no answer: unknown", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.unknown, "end: succeeded"),
        ]),
        Scene("A run that is over needs no answer: garbage, and gone", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.refused, "end: succeeded"),
        ]),
        Scene("A run that is over is not given up because ComfyUI goes away before it answers", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.lostTouch, "away"), (.awayElsewhere, "end: succeeded"),
        ]),
        Scene("A run that is over was in time, whenever its submit is answered", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.deadline, ""), (.accepted, "delivered; end: succeeded"),
        ]),
        Scene("A run that is over is not suspected, whenever its submit is answered", [
            (.start, started), (.interrupted, "await end 0.5 seconds"), (.ended, "executed"), (.stuck, ""), (.accepted, "delivered; end: interrupted"),
        ]),
        Scene("What sent messages was delivered, whatever became of the submit", [(.start, started), (.notDelivered, "end: lost, running")]),
        Scene("What sent messages was delivered, and ComfyUI went down with it", [(.start, started), (.lostTouch, "away"), (.notDelivered, "end: lost, killed")]),
        Scene("What sent messages was delivered, even if ComfyUI cannot be reached", [(.start, started), (.notReached, "end: lost, running")]),
        Scene("What sent no messages was not delivered", [(.notDelivered, "end: not delivered")]),
        Scene("What could not even be sent", [(.notReached, "end: not reached")]),
        Scene("What ComfyUI refuses", [(.refused, "end: refused")]),
        Scene("A submit without an answer, and the books do not have it", [(.unknown, ""), (.silent, "ask (silence)"), (.absent, "end: not delivered")]),
        Scene("A submit without an answer, and it ran", [(.unknown, ""), (.start, started), (.silent, "ask (silence)"), (.absent, "end: lost, running")]),
        Scene("A submit without an answer, and the books have it", [
            (.unknown, ""), (.silent, "ask (silence)"), (.behindOwn, ""), (.silent, "ask (silence)"), (.absent, "end: lost, waiting"),
        ]),
        Scene("What is to be asked waits for the submit's answer", [(.lostTouch, "away"), (.reconnected, "back"), (.accepted, "delivered; ask (again)")]),
        Scene("Outputs that are left out are told where that is allowed", allowsPartial: true, [(.partly, "delivered; log"), (.start, started)]),
        Scene("Outputs that are left out fail the job where it is not", [
            (.partly, "delivered; fail invalid_workflow; take back"), (.start, started), (.interrupted, "await end 0.5 seconds"), (.ended, "executed; end: interrupted"),
        ]),
        Scene("What ComfyUI has already is asked about", [(.found, "delivered; ask (submit)"), (.succeeded, "\(started); collect; executed; end: succeeded")]),
    ])
    func submitting(_ scene: Scene) throws { try play(scene) }

    @Test("The books", arguments: [
        Scene("A verdict that went stale is asked for again at once", [
            (.accepted, "delivered"), (.start, started), (.silent, "ask (silence)"), (.overtaken, ""), (.running, "ask (again)"),
            (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("A question that failed after it went stale is asked again at once", [
            (.accepted, "delivered"), (.lostTouch, "away; ask (reconnect)"), (.reconnected, "back"), (.noVerdict, "ask (again)"),
        ]),
        Scene("A run whose socket breaks is asked about before the socket is back", [
            (.accepted, "delivered"), (.start, started), (.lostTouch, "away; ask (reconnect)"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("A run that the next one overtakes is asked about", [(.accepted, "delivered"), (.start, started), (.overtaken, "ask (gap)")]),
        Scene("What has not begun is not overtaken", [(.accepted, "delivered"), (.overtaken, "")]),
        Scene("An end without a beginning proves nothing", [
            (.accepted, "delivered"), (.success, "ask (gap)"), (.ended, ""), (.behindOwn, "ask (again)"), (.running, started),
        ]),
        Scene("A late end of an earlier run does not end this one", [
            (.success, ""), (.ended, ""), (.accepted, "delivered; ask (again)"), (.behindOwn, ""), (.start, started), (.success, "await end 0.5 seconds"),
            (.ended, "ask (gap)"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("The books know first that it runs", [
            (.accepted, "delivered"), (.silent, "ask (silence)"), (.running, "reconnect; started; limit 60.0 seconds"), (.start, ""), (.output, "collect"),
            (.success, "await end 0.5 seconds"), (.ended, "executed; end: succeeded"),
        ]),
        Scene("The books know that it runs, and an end comes without its beginning", [
            (.accepted, "delivered"), (.silent, "ask (silence)"), (.running, "reconnect; started; limit 60.0 seconds"), (.success, "await end 0.5 seconds"),
            (.endDue, "ask (gap); await end 1.0 seconds"), (.absent, "end: lost, running"),
        ]),
        Scene("After a gap only the books are believed", [
            (.accepted, "delivered"), (.start, started), (.lostTouch, "away; ask (reconnect)"), (.reconnected, "back"), (.running, "ask (again)"),
            (.success, "await end 0.5 seconds"), (.running, ""), (.ended, "ask (gap)"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("Pictures of the socket that a gap swallowed", classType: socketOutput, [
            (.accepted, "delivered"), (.start, started), (.node, ""), (.lostTouch, "away; ask (reconnect)"), (.succeeded, "collect; executed; end: lost, results"),
        ]),
        Scene("The gap ends with the outcome", classType: socketOutput, [
            (.accepted, "delivered"), (.lostTouch, "away; ask (reconnect)"), (.reconnected, "back"), (.success, ""), (.behindOwn, "ask (again)"),
            (.succeeded, "\(started); collect; executed; end: lost, results"),
        ]),
        Scene("A gap behind the outcome swallowed no picture", classType: socketOutput, [
            (.accepted, "delivered"), (.start, started), (.node, ""), (.picture, "capture"), (.success, "await end 0.5 seconds"),
            (.lostTouch, "away; ask (reconnect)"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("A socket that said nothing at all", classType: socketOutput, [
            (.accepted, "delivered"), (.pass(10), ""), (.silent, "ask (silence)"), (.succeeded, "reconnect; \(started); collect; executed; end: lost, results"),
        ]),
        Scene("ComfyUI has forgotten the socket: it runs the prompt and says nothing", [
            (.accepted, "delivered"), (.pass(10), ""), (.silent, "ask (silence)"), (.running, "reconnect; \(started)"), (.silent, "ask (silence)"), (.running, ""),
        ]),
        Scene("A node is silent, and ComfyUI may send to an older connection", [
            (.accepted, "delivered"), (.start, started), (.pass(10), ""), (.silent, "ask (silence)"), (.runningUnheard, "reconnect"), (.silent, "ask (silence)"), (.running, ""),
        ]),
        Scene("A node is silent, and nobody asked because of that", [
            (.accepted, "delivered"), (.start, started), (.overtaken, "ask (gap)"), (.runningUnheard, ""),
        ]),
        Scene("The last message does not come: asked with growing pauses until it is known", [
            (.accepted, "delivered"), (.start, started), (.success, "await end 0.5 seconds"), (.endDue, "ask (gap); await end 1.0 seconds"), (.noVerdict, ""),
            (.endDue, "ask (gap); await end 1.0 seconds"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("The end of a run that only the queue's length tells: one question may fail", [
            (.accepted, "delivered"), (.queued, ""), (.start, started), (.left, "await end 0.5 seconds"), (.endDue, "ask (gap); await end 1.0 seconds"),
            (.noVerdict, ""), (.endDue, "ask (gap); await end 1.0 seconds"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("The queue got shorter, and the run goes on", [
            (.accepted, "delivered"), (.queued, ""), (.start, started), (.left, "await end 0.5 seconds"), (.node, ""), (.endDue, "ask (gap)"), (.running, ""),
        ]),
        Scene("Gone after ComfyUI said how it went", [
            (.accepted, "delivered"), (.start, started), (.success, "await end 0.5 seconds"), (.endDue, "ask (gap); await end 1.0 seconds"), (.absent, "executed; end: succeeded"),
        ]),
        Scene("Gone before it began", [(.accepted, "delivered"), (.silent, "ask (silence)"), (.absent, "end: lost, waiting")]),
        Scene("Gone while it ran", [(.accepted, "delivered"), (.start, started), (.silent, "ask (silence)"), (.absent, "end: lost, running")]),
        Scene("Gone with ComfyUI", [(.accepted, "delivered"), (.start, started), (.lostTouch, "away; ask (reconnect)"), (.absent, "end: lost, killed")]),
        Scene("A history that cannot be read does not hold a job for ever", [
            (.accepted, "delivered"), (.silent, "ask (silence)"), (.unreadable, ""), (.silent, "ask (silence)"), (.unreadable, ""), (.silent, "ask (silence)"),
            (.unreadable, "end: lost, running"),
        ]),
        Scene("A history that cannot be read, of a run that ComfyUI said succeeded", [
            (.accepted, "delivered"), (.start, started), (.success, "await end 0.5 seconds"), (.silent, "ask (silence)"), (.unreadable, ""), (.silent, "ask (silence)"),
            (.unreadable, ""), (.silent, "ask (silence)"), (.unreadable, "executed; end: succeeded"),
        ]),
    ])
    func books(_ scene: Scene) throws { try play(scene) }

    @Test("Cancel, time limit and interrupts", arguments: [
        Scene("A cancel waits for the submit's answer: accepted", [(.cancel, ""), (.accepted, "delivered; take back"), (.absent, "end: taken back")]),
        Scene("A cancel waits for the submit's answer: found", [(.cancel, ""), (.found, "delivered; take back"), (.absent, "end: taken back")]),
        Scene("A cancel waits for the submit's answer: none", [(.cancel, ""), (.unknown, "take back"), (.absent, "end: taken back")]),
        Scene("A cancel waits for the submit's answer: refused", [(.cancel, ""), (.refused, "end: refused")]),
        Scene("A cancel before a partial answer: canceled, not failed", [(.cancel, ""), (.partly, "delivered; take back"), (.absent, "end: taken back")]),
        Scene("A cancel between the end and the answer takes nothing back", [
            (.start, started), (.success, "await end 0.5 seconds"), (.ended, "executed"), (.cancel, ""), (.accepted, "delivered; end: succeeded"),
        ]),
        Scene("Cancel asked for twice", [(.accepted, "delivered"), (.cancel, "take back"), (.cancel, ""), (.waiting, ""), (.absent, "end: taken back")]),
        Scene("A cancel against the end", [
            (.accepted, "delivered"), (.start, started), (.cancel, "take back"), (.success, "await end 0.5 seconds"), (.ended, "executed; end: succeeded"),
        ]),
        Scene("A cancel against a verdict", [
            (.accepted, "delivered"), (.start, started), (.overtaken, "ask (gap)"), (.cancel, "take back"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("A cancel against a stale question", [
            (.accepted, "delivered"), (.start, started), (.silent, "ask (silence)"), (.lostTouch, "away"), (.cancel, "take back"), (.running, "ask (again)"),
            (.wasInterrupted, "executed; end: interrupted"),
        ]),
        Scene("A cancel while the history cannot be read", [(.accepted, "delivered"), (.start, started), (.cancel, "take back"), (.unreadable, "end: taken back")]),
        Scene("A cancel while ComfyUI is away", [
            (.accepted, "delivered"), (.lostTouch, "away; ask (reconnect)"), (.cancel, "take back"), (.noVerdictAway, "end: lost, unreachable"),
        ]),
        Scene("A cancel before the time limit: canceled, not timed out", [
            (.accepted, "delivered"), (.start, started), (.cancel, "take back"), (.deadline, ""), (.absent, "end: taken back"),
        ]),
        Scene("The time limit before a cancel", [
            (.accepted, "delivered"), (.start, started), (.deadline, "fail timed_out; take back"), (.cancel, ""), (.absent, "end: taken back"),
        ]),
        Scene("The time limit before the submit's answer", [
            (.start, started), (.deadline, "fail timed_out"), (.accepted, "delivered; take back"), (.interrupted, "await end 0.5 seconds"),
            (.ended, "executed; end: interrupted"),
        ]),
        Scene("The time limit of a job that failed already", [
            (.partly, "delivered; fail invalid_workflow; take back"), (.start, started), (.deadline, ""), (.absent, "end: taken back"),
        ]),
        Scene("An interrupt that nobody here asked for", [
            (.accepted, "delivered"), (.start, started), (.interrupted, "await end 0.5 seconds"), (.ended, "executed; end: interrupted"),
        ]),
        Scene("An interrupt out of doubt is a stall: by message", [
            (.accepted, "delivered"), (.start, started), (.stuck, "doubt; take back"), (.interrupted, "await end 0.5 seconds"), (.ended, "executed; end: lost, stalled"),
        ]),
        Scene("An interrupt out of doubt is a stall: by verdict", [
            (.accepted, "delivered"), (.start, started), (.stuck, "doubt; take back"), (.wasInterrupted, "executed; end: lost, stalled"),
        ]),
        Scene("A doubt against a success", [
            (.accepted, "delivered"), (.start, started), (.stuck, "doubt; take back"), (.success, "await end 0.5 seconds"), (.absent, "executed; end: succeeded"),
        ]),
        Scene("A doubt against a time limit", [
            (.accepted, "delivered"), (.start, started), (.stuck, "doubt; take back"), (.deadline, "fail timed_out"), (.deadline, ""), (.wasInterrupted, "executed; end: lost, stalled"),
        ]),
    ])
    func givingBack(_ scene: Scene) throws { try play(scene) }

    @Test("A ComfyUI that is stuck, or away", arguments: [
        Scene("It took the prompt and does nothing with it", [
            (.accepted, "delivered"), (.start, started), (.silent, "ask (silence)"), (.running, ""), (.pass(60), ""), (.silent, "ask (silence)"),
            (.running, "doubt; take back"), (.absent, "end: lost, stalled"),
        ]),
        Scene("It does not give the prompt up", [
            (.accepted, "delivered"), (.start, started), (.silent, "ask (silence)"), (.running, ""), (.pass(60), ""), (.silent, "ask (silence)"),
            (.running, "doubt; take back"), (.pass(19), ""), (.running, ""), (.pass(1), ""), (.running, "end: stuck in it"),
        ]),
        Scene("It begins nothing", [
            (.accepted, "delivered"), (.silent, "ask (silence)"), (.waiting, ""), (.pass(60), ""), (.silent, "ask (silence)"), (.waiting, "doubt; take back"),
            (.absent, "end: stuck"),
        ]),
        Scene("Another attempt found it stuck before the submit was answered", [(.stuck, "doubt"), (.accepted, "delivered; take back"), (.absent, "end: stuck")]),
        Scene("Two doubts: the first one stays", [
            (.accepted, "delivered"), (.stuck, "doubt; take back"), (.stuckBehind, ""), (.absent, "end: stuck"),
        ]),
        Scene("Behind a stranger: out of the queue, with pauses, and nothing is interrupted", [
            (.accepted, "delivered"), (.stuckBehind, "doubt; withdraw"), (.behindStranger, ""), (.pass(2), ""), (.behindStranger, "withdraw"), (.absent, "end: behind"),
        ]),
        Scene("Behind a stranger, found before the submit was answered", [(.stuckBehind, "doubt"), (.accepted, "delivered; withdraw"), (.absent, "end: behind")]),
        Scene("The stranger goes, and the prompt runs", [
            (.accepted, "delivered"), (.stuckBehind, "doubt; withdraw"), (.running, started), (.start, ""), (.interrupted, "await end 0.5 seconds"),
            (.ended, "executed; end: interrupted"),
        ]),
        Scene("A cancel behind a stranger", [(.accepted, "delivered"), (.stuckBehind, "doubt; withdraw"), (.cancel, "take back"), (.absent, "end: behind")]),
        Scene("A cancel behind a stranger that goes", [
            (.accepted, "delivered"), (.stuckBehind, "doubt; withdraw"), (.cancel, "take back"), (.running, started), (.absent, "end: taken back"),
        ]),
        Scene("A stranger is waited for as long as a node may take", [
            (.accepted, "delivered"), (.silent, "ask (silence)"), (.behindStranger, ""), (.pass(1799), ""), (.silent, "ask (silence)"), (.behindStranger, ""),
            (.pass(1), ""), (.silent, "ask (silence)"), (.behindStranger, "doubt; withdraw"),
        ]),
        Scene("Away before the submit was answered: callers are not held up, the job waits", [(.away, "turn away"), (.accepted, "delivered")]),
        Scene("Away before the submit was answered: another ComfyUI runs it", [(.awayElsewhere, "end: lost, unreachable")]),
        Scene("Away before the submit was answered: nobody but callers wants it", [(.awayAlone, "fail upstream_unreachable; end: lost, unreachable")]),
        Scene("Away without a socket, and its books can be asked", [
            (.accepted, "delivered"), (.start, started), (.lostTouch, "away; ask (reconnect)"), (.noVerdict, ""), (.away, "ask (reconnect)"), (.succeeded, "collect; executed; end: succeeded"),
        ]),
        Scene("Away, and the question hangs", [
            (.accepted, "delivered"), (.lostTouch, "away; ask (reconnect)"), (.awayElsewhere, ""), (.pass(3), ""), (.awayElsewhere, "end: lost, unreachable"),
        ]),
        Scene("Away, and the question fails", [(.accepted, "delivered"), (.lostTouch, "away; ask (reconnect)"), (.noVerdictAway, "turn away")]),
    ])
    func trouble(_ scene: Scene) throws { try play(scene) }

    @Test("Adoption", arguments: [
        Scene(adopted: "It ran, and is gone", runs: true, [(.absent, "end: lost, running")]),
        Scene(adopted: "It waited, and is gone", runs: false, [(.absent, "end: lost, waiting")]),
        Scene(adopted: "It was done meanwhile", runs: true, [(.succeeded, "started; limit 20.0 seconds; collect; executed; end: succeeded")]),
        Scene(adopted: "It still runs: its time counts from its beginning", runs: true, [(.running, "started; limit 20.0 seconds")]),
        Scene(adopted: "It still runs, and its time is long over", runs: true, [(.pass(100), ""), (.running, "started; limit 0.0 seconds"), (.deadline, "fail timed_out; take back")]),
        Scene(adopted: "It was canceled before", runs: true, [(.cancel, "take back"), (.absent, "end: taken back")]),
        Scene(adopted: "ComfyUI is not there yet", runs: true, isConnected: false, [(.reconnected, "back; ask (reconnect)"), (.absent, "end: lost, running")]),
        Scene(adopted: "The socket is back while it is asked", runs: true, [(.reconnected, "back"), (.running, "ask (again); started; limit 20.0 seconds")]),
    ])
    func adopting(_ scene: Scene) throws { try play(scene) }
}
