import Synchronization
import Testing

@testable import Jobs

/// Whom a change concerns, as a value: no job, no clock.
@Suite struct AudienceTests {
    private let progress = JobEvent.progress(JobProgress(value: 0.5, nodesDone: 1, nodesTotal: 2))

    /// An audience with the names of those that it calls.
    private final class House {
        var audience = Audience()
        var log = EventLog(previewLimit: 4)
        let called = Calls()

        final class Calls: Sendable {
            private let names = Mutex<[String]>([])
            func add(_ name: String) { names.withLock { $0.append(name) } }
            func take() -> [String] {
                names.withLock { names in
                    defer { names = [] }
                    return names.sorted()
                }
            }
        }

        func addViewer(_ name: String) -> UInt64 {
            let token = audience.makeToken()
            audience.addViewer(token) { [called] in called.add(name) }
            return token
        }

        func addWaiter(_ name: String, isCaller: Bool = false, for status: JobStatus? = nil) -> UInt64 {
            let token = audience.makeToken()
            audience.addWaiter(token, Audience.Waiter(isWanted: { $0 == status }, isCaller: isCaller) { [called] in called.add(name) })
            return token
        }

        /// - Returns: whom it concerns, and the place that is held back.
        func happen(_ events: JobEvent..., status: JobStatus? = nil) -> ([String], UInt64?) {
            let end = log.end
            for event in events { log.append(event) }
            return perform(audience.call(log, since: end, status))
        }

        func performing(_ body: (inout Audience) -> Audience.Call) -> ([String], UInt64?) { perform(body(&audience)) }

        func perform(_ call: Audience.Call) -> ([String], UInt64?) {
            for body in call.calls { body() }
            return (called.take(), call.heldBack)
        }
    }

    @Test func viewersAreToldOfEventsAndWaitersOfStatuses() {
        let house = House()
        #expect(house.happen(.comfyui(raw: "{}")) == ([], nil))
        let viewer = house.addViewer("v")
        _ = house.addWaiter("running", for: .running)
        _ = house.addWaiter("canceling", for: .canceling)
        #expect(house.happen(.comfyui(raw: "{}")) == (["v"], nil))
        #expect(house.happen() == ([], nil))
        #expect(house.happen(.status(.running, error: nil), status: .running) == (["running", "v"], nil))
        #expect(house.happen(.status(.running, error: nil), status: .running) == (["v"], nil), "once")
        let areGone = [house.audience.removeViewer(viewer), house.audience.removeViewer(viewer)]
        #expect(areGone == [true, false])
        // The end is wanted by all.
        #expect(house.happen(.status(.succeeded, error: nil), status: .succeeded) == (["canceling"], nil))
        #expect(house.audience.waiterCount == 0)
    }

    @Test func progressIsHeldBackUntilSomethingComesWithItOrTheTimeIsOver() {
        let house = House()
        _ = house.addViewer("v")
        #expect(house.happen(progress) == ([], 1))
        #expect(house.happen(progress) == ([], nil), "one timer")
        #expect(house.happen(.comfyui(raw: "{}")) == (["v"], nil))
        // The timer of what was told with something else is late, and says nothing.
        #expect(house.performing { $0.companionTimeIsOver(1) } == ([], nil))
        #expect(house.happen(progress) == ([], 4))
        #expect(house.performing { $0.companionTimeIsOver(1) } == ([], nil))
        #expect(house.performing { $0.companionTimeIsOver(4) } == (["v"], nil))
        #expect(house.performing { $0.companionTimeIsOver(4) } == ([], nil))
    }

    @Test func progressThatNobodyWatchesNeedsNoTimer() {
        let house = House()
        #expect(house.happen(progress) == ([], nil))
        _ = house.addViewer("v")
        #expect(house.happen(progress) == ([], 2))
    }

    @Test func onlyCallersAreTurnedAway() {
        let house = House()
        _ = house.addWaiter("caller", isCaller: true)
        let other = house.addWaiter("other")
        #expect(house.performing { $0.turnAwayCallers() } == (["caller"], nil))
        #expect(house.performing { $0.turnAwayCallers() } == ([], nil))
        let removed = [house.audience.removeWaiter(other), house.audience.removeWaiter(other)]
        #expect(removed.map { $0 != nil } == [true, false])
    }

    @Test(
        "Who would see a status at once",
        arguments: [
            ("", .queued, false), ("", .succeeded, true), ("v", .queued, true), ("w", .queued, false), ("w", .running, true),
        ] as [(String, JobStatus, Bool)])
    func awaits(_ there: String, _ status: JobStatus, _ isAwaited: Bool) {
        let house = House()
        if there == "v" { _ = house.addViewer("v") }
        if there == "w" { _ = house.addWaiter("w", for: .running) }
        #expect(house.audience.awaits(status) == isAwaited)
    }
}
