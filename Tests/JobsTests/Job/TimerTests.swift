import Synchronization
import Testing

@testable import Jobs
@testable import TestSupport

/// No timer outlives what it was for.
@Suite(.timeLimit(.minutes(5))) struct TimerTests {
    private func waiting(_ count: Int, on job: Job) -> [Task<Void, Never>] {
        (0..<count).map { _ in Task { await job.wait(atMost: .seconds(86_400), isCaller: true, until: \.isTerminal) } }
    }

    /// Callers that would wait for a day, in each of the ways in which waiting ends: 24 000 of them left 18 MB behind.
    @Test("A wait takes its timer along", arguments: ["end", "cancellation", "turned away", "time"]) func waits(_ end: String) async throws {
        let timers = ManualTimers()
        let job = Job(submission: try .sample(), timers: timers)
        let waits = waiting(100, on: job)
        for await _ in timers.starts where timers.scheduled == 100 { break }
        #expect(timers.pending == Array(repeating: .seconds(86_400), count: 100) && job.waiterCount == 100)
        switch end {
        case "end": job.finish(.succeeded)
        case "cancellation": for wait in waits { wait.cancel() }
        case "turned away": job.turnAwayCallers()
        default: timers.pass()
        }
        for wait in waits { await wait.value }
        #expect(timers.pending.isEmpty && job.waiterCount == 0)
    }

    @Test func aWaitThatIsOverAtOnceStartsNone() async throws {
        let timers = ManualTimers()
        let job = Job(submission: try .sample(), timers: timers)
        await job.wait(atMost: .zero) { _ in false }
        await job.wait(atMost: .seconds(1)) { $0 == .queued }
        let cancelled = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            await job.wait(atMost: .seconds(1)) { _ in false }
        }
        await cancelled.value
        #expect(timers.scheduled == 0)
    }

    @Test func aProgressThatNothingComesWithIsToldWhenItsTimeIsOver() throws {
        let timers = ManualTimers()
        let job = Job(submission: try .sample(), timers: timers)
        let wakes = Counter()
        _ = job.watch(from: .snapshot, wake: { wakes.add() })
        let progress = JobEvent.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2))
        job.publish(progress)
        job.publish(progress)
        #expect(wakes.value == 0 && timers.pending == [Audience.companionTime])
        timers.pass()
        #expect(wakes.value == 1)
    }

    private final class Witness: Sendable {
        let gone: AsyncStream<Void>.Continuation
        init(_ gone: AsyncStream<Void>.Continuation) { self.gone = gone }
        deinit { gone.finish() }
    }

    /// Of `Task.sleep` and `asyncAfter` it would be gone after the hour.
    @Test func aCancelledTimerOfTheSystemLetsGoOfWhatItHolds() async {
        let (gone, continuation) = AsyncStream.makeStream(of: Void.self)
        func start() -> any ScheduledTimer {
            let witness = Witness(continuation)
            return SystemTimers().schedule(after: .seconds(3600)) { withExtendedLifetime(witness) {} }
        }
        let timer = start()
        timer.cancel()
        for await _ in gone {}
    }

    @Test func aTimerOfTheSystemCallsOnceThoughNobodyHoldsIt() async {
        let (calls, continuation) = AsyncStream.makeStream(of: Void.self)
        for time in [Duration.milliseconds(1), .microseconds(1), .nanoseconds(1)] {
            let (gone, last) = AsyncStream.makeStream(of: Void.self)
            do {
                let witness = Witness(last)
                _ = SystemTimers().schedule(after: time) {
                    continuation.yield()
                    withExtendedLifetime(witness) {}
                }
            }
            for await _ in gone {}
        }
        continuation.finish()
        #expect(await calls.reduce(0) { count, _ in count + 1 } == 3)
    }
}
