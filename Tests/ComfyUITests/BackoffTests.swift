import ComfyUI
import Testing

@Suite struct BackoffTests {
    @Test func doublesUpToTheMaximumAndStartsAnew() {
        var backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(15))
        let longest = (0..<10).map { _ in backoff.next(random: 1) }
        #expect(longest == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15, 15].map { .milliseconds(Int($0 * 1000)) })
        backoff.reset()
        #expect(backoff.next(random: 1) == .milliseconds(100))
    }

    @Test func aLimitIsOfOneDelayOnly() {
        var backoff = Backoff(minimum: .seconds(1), maximum: .seconds(15))
        let delays = [nil, 2, 2, 2, nil, 0.5].map { limit in backoff.next(atMost: limit.map { .seconds($0) }, random: 1) }
        #expect(delays == [1, 2, 2, 2, 15, 0.5].map { .seconds($0) })
    }

    @Test func jitterTakesTheSecondHalf() {
        var (low, high) = (Backoff(), Backoff())
        #expect(low.next(random: 0) == .milliseconds(50))
        #expect(high.next(random: 1) == .milliseconds(100))
        var random = Backoff(minimum: .seconds(1), maximum: .seconds(1))
        let delays = (0..<100).map { _ in random.next() }
        #expect(delays.allSatisfy { $0 >= .milliseconds(500) && $0 <= .seconds(1) })
        #expect(Set(delays).count > 50)
    }

    @Test func limitsThatMakeNoSenseAreMended() {
        var backoff = Backoff(minimum: .zero, maximum: .seconds(-1))
        #expect(backoff.next(random: 1) == .milliseconds(1))
        #expect(backoff.next(random: 1) == .milliseconds(1))
    }
}
