import Testing

@testable import ComfyUI

@Suite(.timeLimit(.minutes(1))) struct TimeLimitTests {
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

    @Test func whatStaysSilentIsEnded() async {
        let activity = Activity()
        await #expect(throws: ComfyUIError.timedOut) {
            try await withIdleLimit(.milliseconds(20), activity) { try await Task.sleep(for: .seconds(3600)) }
        }
    }
}
