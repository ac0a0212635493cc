import Testing

@testable import API
@testable import Jobs
@testable import TestSupport

@Suite struct ServerTimingTests {
    @Test func thePartsOfAWholeJob() {
        let timing = ServerTiming()
        let begin = ContinuousClock.now
        var marks = JobTimeline.Marks(submitted: begin + .milliseconds(2))
        marks.started = begin + .milliseconds(12)
        marks.executed = begin + .milliseconds(112)
        marks.collected = begin + .milliseconds(115)
        marks.ended = begin + .milliseconds(116)
        let text = timing.value(of: marks, at: begin + .milliseconds(120))
        #expect(text.wholeMatch(of: /queue;dur=\d+\.\d, execution;dur=\d+\.\d, fetch;dur=\d+\.\d, bridge;dur=\d+\.\d/) != nil)
        let parts = serverTimingParts(text)
        #expect((parts["queue"], parts["execution"], parts["fetch"]) == (10, 100, 3))
        // And what passed before the job was there.
        #expect((parts["bridge"] ?? 0) >= 7)
    }

    /// What has not come to its end reaches until now.
    @Test func ofAJobThatGoesOn() {
        let timing = ServerTiming()
        let begin = ContinuousClock.now
        var marks = JobTimeline.Marks(submitted: begin)
        #expect(serverTimingParts(timing.value(of: marks, at: begin + .seconds(1)))["queue"] == 1000)
        marks.started = begin + .milliseconds(300)
        let parts = serverTimingParts(timing.value(of: marks, at: begin + .seconds(1)))
        #expect((parts["queue"], parts["execution"], parts["fetch"]) == (300, 700, 0))
    }

    /// A job that never ran only waited; one of another request counts as far as it falls into this one.
    @Test func ofOtherCases() {
        var timing = ServerTiming()
        let begin = ContinuousClock.now
        var marks = JobTimeline.Marks(submitted: begin)
        marks.ended = begin + .milliseconds(50)
        #expect(serverTimingParts(timing.value(of: marks, at: begin + .milliseconds(60)))["queue"] == 50)

        marks = JobTimeline.Marks(submitted: begin - .seconds(100))
        marks.started = begin - .seconds(50)
        marks.executed = begin - .seconds(10)
        marks.collected = begin - .seconds(9)
        marks.ended = begin - .seconds(9)
        timing = ServerTiming()
        let parts = serverTimingParts(timing.value(of: marks, at: begin + .milliseconds(5)))
        #expect((parts["queue"], parts["execution"], parts["fetch"]) == (0, 0, 0))
    }
}
