import ComfyUI
import NIOCore
import OrderedJSON
import Testing

@testable import Bridge

@Suite struct PromptInboxTests {
    private static let flags = EventSocketEvent.message(.featureFlags(["supports_preview_metadata": true]), raw: "")
    private static let unmarked = EventSocketEvent.binary(.preview(PreviewFrame(metadata: nil, contentType: "image/png", image: ByteBuffer())))

    /// Of each unmarked picture in turn.
    @Test("An unmarked picture is a stranger's only if ComfyUI had our flags on this connection", arguments: [
        ([unmarked], [false]), ([flags, unmarked], [true]), ([unmarked, flags, unmarked], [false, true]),
        ([flags, unmarked, .disconnected(reason: "r"), .connected(sid: nil), unmarked, flags, unmarked], [true, false, true]),
    ] as [([EventSocketEvent], [Bool])])
    func marks(_ events: [EventSocketEvent], _ expected: [Bool]) async {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        let other = inbox.open(JobID())
        inbox.receive(.connected(sid: nil))
        for event in events {
            // What runs is the job.
            if case .binary = event { inbox.receive(.message(.executionStart(promptID: job.description, timestamp: nil), raw: "")) }
            inbox.receive(event)
        }
        // Nothing runs any more, or it is not known what.
        inbox.receive(.message(.executionEnded(promptID: job.description), raw: ""))
        inbox.receive(Self.unmarked)
        inbox.receive(.connected(sid: nil))
        inbox.receive(Self.unmarked)
        inbox.close(job, channel)
        var seen: [Bool] = []
        while let input = await channel.next() {
            if case .binary(_, let marksPreviews) = input { seen.append(marksPreviews) }
        }
        #expect(seen == expected)
        other.send(.deadline)
        while let input = await other.next() {
            if case .deadline = input { break }
            if case .binary = input { Issue.record("another prompt got the picture") }
        }
    }

    @Test func theBeginningOfOnePromptIsToldToTheOthers() async {
        let inbox = PromptInbox { _ in }
        let (first, second) = (JobID(), JobID())
        let channels = (inbox.open(first), inbox.open(second))
        for job in [first, second] { inbox.receive(.message(.executionStart(promptID: job.description, timestamp: nil), raw: "")) }
        inbox.close(first, channels.0)
        inbox.close(second, channels.1)
        func told(_ channel: PromptInbox.Channel) async -> [Bool] {
            var told: [Bool] = []
            while let input = await channel.next() { if case .overtaken = input { told.append(true) } else { told.append(false) } }
            return told
        }
        let seen = (await told(channels.0), await told(channels.1))
        #expect(seen == ([false, true], [true, false]))
    }

    @Test func whatIsOpenedAgainIsNotClosedByTheLastRun() async {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let first = inbox.open(job)
        let second = inbox.open(job)
        inbox.close(job, first)
        #expect(inbox.openCount == 1)
        inbox.receive(.message(.executionEnded(promptID: job.description), raw: ""))
        inbox.close(job, second)
        #expect(inbox.openCount == 0)
        var inputs = 0
        while await second.next() != nil { inputs += 1 }
        #expect(inputs == 1)
    }

    @Test func whatIsOverIsOpenButNotInside() {
        let inbox = PromptInbox { _ in }
        let (first, second) = (JobID(), JobID())
        let channel = inbox.open(first)
        _ = inbox.open(second)
        inbox.isOver(first)
        #expect(inbox.openCount == 2 && inbox.insideCount == 1)
        inbox.isOver(first)
        inbox.close(first, channel)
        #expect(inbox.openCount == 1 && inbox.insideCount == 1)
    }
}

@Suite(.timeLimit(.minutes(5))) struct PromptChannelTests {
    private func number(_ input: PromptInbox.Input?) -> String? {
        if case .stuck(let reason)? = input { reason } else { nil }
    }

    @Test func whatIsSentBeforeAndAfterTheReaderWaitsComesInOrder() async {
        let channel = PromptInbox.Channel()
        for number in 0..<10 { channel.send(.stuck(reason: "\(number)")) }
        async let read = {
            var numbers: [String] = []
            while let input = await channel.next() { numbers.append(number(input) ?? "?") }
            return numbers
        }()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for number in 10..<1000 {
                    channel.send(.stuck(reason: "\(number)"))
                    if number.isMultiple(of: 7) { await Task.yield() }
                }
            }
        }
        channel.finish()
        let numbers = await read
        #expect(numbers == (0..<1000).map { "\($0)" })
        let afterwards = await channel.next()
        #expect(afterwards == nil)
    }

    @Test("A cancelled reader gets what waits, then nothing, and does not hang", arguments: [true, false])
    func cancellation(_ isFirst: Bool) async {
        let channel = PromptInbox.Channel()
        let reader = Task {
            if isFirst { while !Task.isCancelled { await Task.yield() } }
            return (await channel.next(), await channel.next())
        }
        if isFirst {
            channel.send(.deadline)
            reader.cancel()
        } else {
            reader.cancel()
        }
        let read = await reader.value
        #expect((read.0 != nil) == isFirst && read.1 == nil)
    }
}
