import NIOPosix
import Testing

@testable import ComfyUI

@Suite(.timeLimit(.minutes(5))) struct TimeLimitTests {
    /// Else a slow reader would end its download by itself.
    @Test func theTimeOfTheReaderDoesNotCount() {
        let activity = Activity()
        let before = ContinuousClock.now
        activity.pause()
        #expect(activity.instant >= before)
        let paused = activity.instant
        #expect(activity.instant >= paused)
        activity.note()
        let noted = activity.instant
        #expect(activity.instant == noted)
    }

    @Test func whatTakesTooLongIsEnded() async {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        await #expect(throws: TimeLimitExceeded.self) {
            try await withTimeLimit(.milliseconds(20), on: eventLoop) { try await eventLoop.sleep(for: .seconds(3600)) }
        }
    }

    @Test func whatIsDoneInTimeIsTheResult() async throws {
        let result = try await withTimeLimit(.seconds(3600), on: MultiThreadedEventLoopGroup.singleton.next()) { 1 }
        #expect(result == 1)
    }

    @Test("A sleep ends with its task, whether it has begun or not", arguments: [true, false])
    func cancellation(_ hasBegun: Bool) async {
        let eventLoop = MultiThreadedEventLoopGroup.singleton.next()
        let (begun, begin) = AsyncStream.makeStream(of: Void.self)
        let sleeper = Task {
            begin.finish()
            if !hasBegun { try? await Task.sleep(for: .seconds(3600)) }  // until it is cancelled
            try await eventLoop.sleep(for: .seconds(3600))
        }
        for await _ in begun {}
        sleeper.cancel()
        await #expect(throws: CancellationError.self) { try await sleeper.value }
    }

    @Test func whatStaysSilentIsEnded() async {
        let activity = Activity()
        await #expect(throws: ComfyUIError.timedOut) {
            try await withIdleLimit(.milliseconds(20), activity, on: MultiThreadedEventLoopGroup.singleton.next()) { try await Task.sleep(for: .seconds(3600)) }
        }
    }
}
