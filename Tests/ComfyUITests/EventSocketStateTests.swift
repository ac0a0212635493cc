@testable import ComfyUI
import Synchronization
import Testing

/// The inputs that come while there is no connection; the others are in `EventSocketLifeTests`.
@Suite struct EventSocketStateTests {
    private func begin(_ state: inout EventSocketState, expecting expected: Bool = true) {
        let began = state.beginAttempt()
        #expect(began == expected)
    }

    private func pause(
        _ state: inout EventSocketState, expecting expected: EventSocketState.PauseStart, _ pause: EventSocketState.Pause = .init(end: {}, hurry: {})
    ) {
        let start = state.beginPause(pause)
        #expect(start == expected)
    }

    @Test func aLifeWithoutInterference() {
        var state = EventSocketState()
        for _ in 1...2 {
            begin(&state)
            #expect(state.unfinished.isEmpty)
            state.ended()
            pause(&state, expecting: .wait)
            state.endPause()
        }
    }

    @Test func hurryingBeforeThePauseSkipsIt() {
        var state = EventSocketState()
        begin(&state)
        state.ended()
        guard case .none = state.reconnectNow() else {
            Issue.record("nothing is there to be closed")
            return
        }
        pause(&state, expecting: .hurry)
        state.endPause()
        begin(&state)
        state.ended()
        pause(&state, expecting: .wait)
    }

    @Test func hurryingInThePauseEndsIt() {
        var state = EventSocketState()
        begin(&state)
        state.ended()
        let woken = Mutex(0)
        pause(&state, expecting: .wait, EventSocketState.Pause(end: { woken.withLock { $0 += 1 } }, hurry: {}))
        guard case .wake(let pause) = state.reconnectNow(), case .none = state.reconnectNow() else {
            Issue.record("it is woken once")
            return
        }
        pause.end()
        #expect(woken.withLock { $0 } == 1)
        state.endPause()
        begin(&state)
    }

    @Test func hurryingWhileConnectingChangesNothing() {
        var state = EventSocketState()
        begin(&state)
        guard case .none = state.reconnectNow() else {
            Issue.record("the attempt is what was asked for")
            return
        }
        state.ended()
        pause(&state, expecting: .wait)
    }

    @Test func whoWaitsCutsAPauseShortOnceAndNothingElse() {
        var state = EventSocketState()
        func isHurried() -> Bool { if case .hurry = state.connectNow() { true } else { false } }
        #expect(!isHurried(), "before the start")
        for round in 1...2 {
            begin(&state)
            #expect(!isHurried(), "while connecting")
            state.ended()
            if round == 2 {
                // The attempt has just failed: the pause is short from its beginning.
                #expect(!isHurried())
                pause(&state, expecting: .waitShortly)
                #expect(!isHurried())
                state.endPause()
                continue
            }
            pause(&state, expecting: .wait)
            #expect(isHurried())
            #expect(!isHurried(), "hurried already")
            state.endPause()
        }
        begin(&state)
        state.ended()
        pause(&state, expecting: .wait)
        #expect(isHurried())
        if case .wake = state.stop() {} else { Issue.record("a hurried pause is ended by a stop") }
    }

    enum Moment: CaseIterable { case start, attempt, end, pause }

    @Test(arguments: Moment.allCases)
    func stoppingIsForEver(_ moment: Moment) {
        var state = EventSocketState()
        var wasWoken = false
        if moment != .start { begin(&state) }
        if moment == .end || moment == .pause { state.ended() }
        if moment == .pause { pause(&state, expecting: .wait) }
        if case .wake = state.stop() { wasWoken = true }
        #expect(wasWoken == (moment == .pause))
        state.ended()
        state.endPause()
        pause(&state, expecting: .stop)
        _ = state.reconnectNow()
        begin(&state, expecting: false)
    }
}
