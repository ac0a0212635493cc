import ComfyUI
import NIOCore
import OrderedJSON
import Testing

@testable import Jobs
@testable import Workers

@Suite struct PromptInboxTests {
    /// ComfyUI sends one without a mark to a prompt that runs while it gets our flags, and to all sockets for a prompt without client id.
    @Test("An unmarked picture is the running prompt's, and nobody's when it is not known what runs", arguments: [
        ([.ours], 1), ([.ours, .flags], 1), ([.flags, .ours], 1), ([], 0), ([.flags], 0), ([.ours, .ended], 0), ([.ours, .connected], 0),
        ([.ours, .ended, .stranger], 0), ([.ours, .stranger], 0), ([.ours, .connected, .flags, .ours], 1),
    ] as [([Step], Int)])
    func unmarked(_ before: [Step], _ expected: Int) async {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        let other = inbox.open(JobID())
        inbox.receive(.connected(sid: nil))
        for step in before {
            switch step {
            case .flags: inbox.receive(.message(.featureFlags(["supports_preview_metadata": true]), raw: ""))
            case .ours: inbox.receive(.message(.executionStart(promptID: job.description, timestamp: nil), raw: ""))
            case .ended: inbox.receive(.message(.executionEnded(promptID: job.description), raw: ""))
            case .stranger: inbox.receive(.message(.progressState(promptID: "stranger", nodes: []), raw: ""))
            case .connected: inbox.receive(.connected(sid: nil))
            }
        }
        inbox.receive(Self.picture)
        #expect(await pictures(in: channel) { inbox.close(job, channel) } == expected)
        #expect(await pictures(in: other) { other.finish() } == 0)
    }

    enum Step: Sendable { case flags, ours, ended, stranger, connected }

    private static let picture = EventSocketEvent.binary(.preview(PreviewFrame(metadata: nil, contentType: "image/png", image: ByteBuffer())))

    private func pictures(in channel: PromptInbox.Channel, after finish: () -> Void) async -> Int {
        finish()
        var count = 0
        while let input = await channel.next() { if case .binary = input { count += 1 } }
        return count
    }

    @Test("A prompt without client id is noise to everybody else", arguments: ["no_client_id", "v0.25/no_client_id", "v0.33/no_client_id"])
    func strangersNoise(_ name: String) async throws {
        let traffic = try RecordedTraffic(name)
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        var frames = 0
        for line in traffic.lines where line.event["ev"] == "ws_recv" {
            if let text = line.event["text"]?.string {
                inbox.receive(.message(try ComfyMessage(parsing: text), raw: text))
            } else if let message = try line.binary {
                frames += 1
                inbox.receive(.binary(message))
            }
        }
        #expect(frames > 0)
        #expect(await pictures(in: channel) { inbox.close(job, channel) } == 0)
    }

    @Test func aMessageUnderWayIsNoSilence() {
        let inbox = PromptInbox { _ in }
        let job = JobID()
        let channel = inbox.open(job)
        let start = ContinuousClock.now
        inbox.receive(.connected(sid: nil))
        #expect(inbox.silence(of: job, at: start + .seconds(9)) >= .seconds(8))
        inbox.receive(.receiving, at: start + .seconds(9))
        #expect(inbox.silence(of: job, at: start + .seconds(12)) == .seconds(3))
        // Complete messages of others, and pongs, say nothing of this prompt.
        inbox.receive(.message(.executionStart(promptID: "another", timestamp: nil), raw: ""), at: start + .seconds(14))
        #expect(inbox.silence(of: job, at: start + .seconds(15)) == .seconds(6))
        #expect(inbox.silence(of: JobID(), at: start + .seconds(15)) == .zero)
        inbox.close(job, channel)
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
    private func number(_ input: Attempt.Input?) -> String? {
        if case .stuck(.device(let reason))? = input { reason } else { nil }
    }

    @Test func whatIsSentBeforeAndAfterTheReaderWaitsComesInOrder() async {
        let channel = PromptInbox.Channel()
        for number in 0..<10 { channel.send(.stuck(.device("\(number)"))) }
        async let read = {
            var numbers: [String] = []
            while let input = await channel.next() { numbers.append(number(input) ?? "?") }
            return numbers
        }()
        await withTaskGroup(of: Void.self) { group in
            group.addTask {
                for number in 10..<1000 {
                    channel.send(.stuck(.device("\(number)")))
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
