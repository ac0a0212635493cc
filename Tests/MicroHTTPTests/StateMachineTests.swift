@testable import MicroHTTP
import Testing

/// Reply: its text; work: its number; stream: its number.
private typealias Machine = ExchangeMachine<String, Int, Int>

@Suite struct ExchangeMachineTests {
    enum Input: Sendable {
        case proceed, park, attach(Int), deliver(String), disconnect, giveUp(String), stop(String), answered(Int?), close
        // Of a streamed body: the bytes that are to come, those that came.
        case offer(Int, awaitsContinue: Bool = false), receive(Int, isFull: Bool = false), ask
        /// A reply that the head alone brought.
        case answer(String, hasBody: Bool)
        /// A reply that may wait for the end of the body.
        case deliverCalmly(String)
    }

    /// What each input returned, as text.
    private func run(_ inputs: [Input]) -> [String] {
        var machine = Machine()
        return inputs.map { input in
            switch input {
            case .proceed: "\(machine.proceed())"
            case .park: "\(machine.park())"
            case .attach(let work): machine.attach(work) ? "kept" : "cancel it"
            case .offer(let rest, let awaitsContinue): "\(machine.offer(UploadProgress(rest: rest, awaitsContinue: awaitsContinue)))"
            case .receive(let count, let isFull): "\(machine.receive(count, isFull: isFull))"
            case .answer(let reply, let hasBody): "\(machine.answer(reply, hasBody: hasBody))"
            case .ask: text(machine.ask())
            case .deliver(let reply): text(machine.deliver(reply, isUrgent: true))
            case .deliverCalmly(let reply): text(machine.deliver(reply, isUrgent: false))
            case .disconnect: text(machine.disconnect())
            case .giveUp(let reply): text(machine.giveUp(reply))
            case .stop(let reply): text(machine.stop(reply))
            case .answered(let stream):
                {
                    machine.answered(with: stream); return "-"
                }()
            case .close: text(machine.close())
            }
        }
    }

    private func text(_ effects: Machine.Effects) -> String {
        var parts: [String] = []
        if let reply = effects.send { parts.append("send \(reply)") }
        if effects.resume { parts.append("resume") }
        if let work = effects.cancel { parts.append("cancel \(work)") }
        if let stream = effects.stream { parts.append("stream \(stream)") }
        if let reply = effects.discarded { parts.append("discard \(reply)") }
        if effects.wasReceiving { parts.append("receiving") }
        return parts.isEmpty ? "-" : parts.joined(separator: ", ")
    }

    @Test(
        "Inputs and what comes of them",
        arguments: [
            // The two orders in which a reply and the access handler can meet.
            ([.proceed, .attach(1), .deliver("a"), .park, .close], ["dispatch", "kept", "-", #"answer("a")"#, "-"]),
            ([.proceed, .attach(1), .park, .deliver("a"), .proceed, .close], ["dispatch", "kept", "suspend", "resume", #"answer("a")"#, "-"]),
            ([.proceed, .park, .attach(1), .deliver("a"), .proceed, .close], ["dispatch", "suspend", "kept", "resume", #"answer("a")"#, "-"]),
            // A reply counts once.
            (
                [.proceed, .park, .deliver("a"), .deliver("b"), .proceed, .deliver("c")],
                ["dispatch", "suspend", "resume", "discard b", #"answer("a")"#, "discard c"]
            ),
            // The client leaves: while the request arrives, before and after parking, with the reply waiting, with the reply queued.
            ([.disconnect, .proceed, .close], ["receiving", "close", "-"]),
            ([.proceed, .disconnect, .attach(1), .park, .deliver("a"), .close], ["dispatch", "-", "cancel it", "close", "discard a", "-"]),
            ([.proceed, .attach(1), .disconnect, .park, .close], ["dispatch", "kept", "cancel 1", "close", "-"]),
            (
                [.proceed, .attach(1), .park, .disconnect, .proceed, .deliver("a"), .close],
                ["dispatch", "kept", "suspend", "resume, cancel 1", "close", "discard a", "-"]
            ),
            ([.proceed, .park, .deliver("a"), .disconnect, .proceed, .close], ["dispatch", "suspend", "resume", "discard a", "close", "-"]),
            (
                [.proceed, .park, .deliver("a"), .proceed, .answered(7), .disconnect, .disconnect, .close],
                ["dispatch", "suspend", "resume", #"answer("a")"#, "-", "stream 7", "stream 7", "stream 7"]
            ),
            // The server stops at each of these moments.
            ([.stop("s"), .proceed, .answered(nil), .close], ["-", #"answer("s")"#, "-", "-"]),
            ([.stop("s"), .disconnect, .proceed], ["-", "discard s, receiving", "close"]),
            ([.proceed, .attach(1), .stop("s"), .park, .deliver("a")], ["dispatch", "kept", "cancel 1", #"answer("s")"#, "discard a"]),
            (
                [.proceed, .attach(1), .park, .stop("s"), .deliver("a"), .proceed],
                ["dispatch", "kept", "suspend", "resume, cancel 1", "discard a", #"answer("s")"#]
            ),
            ([.proceed, .park, .stop("s"), .attach(1)], ["dispatch", "suspend", "resume", "cancel it"]),
            ([.proceed, .park, .deliver("a"), .stop("s"), .proceed], ["dispatch", "suspend", "resume", "-", #"answer("a")"#]),
            (
                [.proceed, .park, .deliver("a"), .proceed, .answered(7), .stop("s")],
                ["dispatch", "suspend", "resume", #"answer("a")"#, "-", "stream 7"]
            ),
            // Refused by the head alone.
            (
                [.answered(nil), .close, .deliver("a"), .disconnect, .stop("s"), .proceed, .park, .close],
                ["-", "-", "discard a", "-", "-", "close", "close", "-"]
            ),
            // libmicrohttpd ends the request itself.
            ([.proceed, .attach(1), .close, .deliver("a"), .attach(2)], ["dispatch", "kept", "cancel 1", "discard a", "cancel it"]),
            ([.proceed, .deliver("a"), .close], ["dispatch", "-", "discard a"]),
            // A body that is collected, until the server stops.
            ([.receive(1), .receive(1), .proceed], ["take", "take", "dispatch"]),
            ([.receive(1), .stop("s"), .receive(1), .proceed], ["take", "-", "discard", #"answer("s")"#]),
            ([.receive(1), .disconnect, .receive(1)], ["take", "receiving", "close"]),
            // Answered by the head: without a body when it is complete, with one at once; not when the client has left; by the server's own
            // answer when it stops.
            ([.answer("a", hasBody: false), .proceed, .close], ["read", #"answer("a")"#, "-"]),
            ([.answer("a", hasBody: true), .answered(nil), .stop("s"), .close], [#"decline("a")"#, "-", "-", "-"]),
            ([.answer("a", hasBody: false), .stop("s"), .proceed], ["read", "-", #"answer("a")"#]),
            ([.answer("a", hasBody: false), .disconnect, .proceed], ["read", "discard a, receiving", "close"]),
            ([.disconnect, .answer("a", hasBody: true)], ["receiving", "close"]),
            ([.stop("s"), .answer("a", hasBody: false)], ["-", #"decline("s")"#]),
        ] as [([Input], [String])])
    func table(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }

    private static let small = UploadProgress.small

    @Test(
        "A streamed body",
        arguments: [
            // The reader asks before and after the access handler waits for it; the body arrives; then as any other request.
            (
                [.offer(9), .park, .attach(1), .ask, .proceed, .receive(9), .proceed, .park, .deliver("a"), .proceed, .close],
                ["dispatch", "suspend", "kept", "resume", "read", "take", "complete", "suspend", "resume", #"answer("a")"#, "-"]
            ),
            ([.offer(9), .ask, .park, .ask, .receive(9), .proceed, .deliver("a"), .park], ["dispatch", "-", "read", "-", "take", "complete", "-", #"answer("a")"#]),
            ([.offer(0), .ask, .park, .proceed, .park], ["dispatch", "-", "read", "complete", "suspend"]),
            // The reader has enough, and asks again; more than once, early and late.
            (
                [.offer(10), .ask, .park, .receive(4, isFull: true), .ask, .ask, .receive(4), .receive(5, isFull: true), .ask, .receive(6), .proceed],
                ["dispatch", "-", "read", "suspend", "resume", "-", "take", "suspend", "resume", "take", "complete"]
            ),
            // The last piece is taken all the same.
            ([.offer(9), .ask, .park, .receive(4), .receive(5, isFull: true), .proceed], ["dispatch", "-", "read", "take", "take", "complete"]),
            // The rest does not come: answered once.
            ([.giveUp("g"), .giveUp("h"), .receive(1), .close], ["send g, receiving", "receiving", "close", "-"]),
            ([.offer(9), .attach(1), .ask, .giveUp("g"), .park], ["dispatch", "kept", "-", "send g, cancel 1, receiving", "close"]),
            ([.offer(9), .attach(1), .ask, .park, .receive(4), .giveUp("g"), .close], ["dispatch", "kept", "-", "read", "take", "send g, cancel 1, receiving", "-"]),
            ([.offer(9), .park, .giveUp("g")], ["dispatch", "suspend", "-"]),
            // A reply before anybody asked: instead of a large body, and of `100 Continue`; after a small one, or when it can wait.
            ([.offer(small + 1), .park, .deliver("a"), .proceed, .close], ["dispatch", "suspend", "resume", #"decline("a")"#, "-"]),
            ([.offer(small + 1), .deliver("a"), .park], ["dispatch", "-", #"decline("a")"#]),
            ([.offer(.max), .park, .deliver("a"), .proceed], ["dispatch", "suspend", "resume", #"decline("a")"#]),
            ([.offer(9, awaitsContinue: true), .park, .deliver("a"), .proceed], ["dispatch", "suspend", "resume", #"decline("a")"#]),
            ([.offer(9, awaitsContinue: true), .park, .deliverCalmly("a"), .proceed], ["dispatch", "suspend", "resume", #"decline("a")"#]),
            (
                [.offer(small), .park, .deliver("a"), .proceed, .receive(small), .proceed],
                ["dispatch", "suspend", "resume", "read", "discard", #"answer("a")"#]
            ),
            ([.offer(9), .deliver("a"), .park, .receive(9), .proceed], ["dispatch", "-", "read", "discard", #"answer("a")"#]),
            (
                [.offer(.max), .park, .deliverCalmly("a"), .proceed, .receive(small), .proceed],
                ["dispatch", "suspend", "resume", "read", "discard", #"answer("a")"#]
            ),
            // Asked for, but answered before the access handler knew.
            ([.offer(.max), .park, .ask, .deliver("a"), .proceed], ["dispatch", "suspend", "resume", "-", #"decline("a")"#]),
            // A reply in the middle: at once, also out of a suspension; after a small rest; not between the bytes of `100 Continue`.
            ([.offer(.max), .ask, .park, .deliver("a"), .receive(1), .close], ["dispatch", "-", "read", "send a", "close", "-"]),
            (
                [.offer(.max), .ask, .park, .receive(1, isFull: true), .deliver("a"), .receive(1)],
                ["dispatch", "-", "read", "suspend", "send a, resume", "close"]
            ),
            (
                [.offer(.max), .ask, .park, .receive(1), .deliverCalmly("a"), .receive(small), .proceed],
                ["dispatch", "-", "read", "take", "-", "discard", #"answer("a")"#]
            ),
            (
                [.offer(small + 1), .ask, .park, .receive(1), .deliver("a"), .receive(small), .proceed],
                ["dispatch", "-", "read", "take", "-", "discard", #"answer("a")"#]
            ),
            (
                [.offer(small + 1), .ask, .park, .receive(1), .receive(1, isFull: true), .deliver("a"), .receive(small), .proceed],
                ["dispatch", "-", "read", "take", "suspend", "resume", "discard", #"answer("a")"#]
            ),
            (
                [.offer(.max, awaitsContinue: true), .ask, .park, .deliver("a"), .receive(1), .close],
                ["dispatch", "-", "read", "-", #"cut("a")"#, "-"]
            ),
            (
                [.offer(.max, awaitsContinue: true), .ask, .park, .deliver("a"), .proceed, .close],
                ["dispatch", "-", "read", "-", #"answer("a")"#, "-"]
            ),
            (
                [.offer(.max, awaitsContinue: true), .ask, .park, .receive(1), .deliver("a"), .proceed],
                ["dispatch", "-", "read", "take", "send a", "close"]
            ),
            // The client leaves: unasked, while the body arrives, with the connection suspended, with an answer on its way, and sent.
            ([.offer(9), .disconnect, .attach(1), .park], ["dispatch", "receiving", "cancel it", "close"]),
            ([.offer(9), .attach(1), .park, .disconnect, .ask, .proceed], ["dispatch", "kept", "suspend", "resume, cancel 1", "-", "close"]),
            ([.offer(9), .attach(1), .ask, .park, .disconnect, .receive(1)], ["dispatch", "kept", "-", "read", "cancel 1, receiving", "close"]),
            (
                [.offer(9), .attach(1), .ask, .park, .receive(1, isFull: true), .disconnect, .ask, .receive(1)],
                ["dispatch", "kept", "-", "read", "suspend", "resume, cancel 1", "-", "close"]
            ),
            ([.offer(9), .park, .deliver("a"), .disconnect, .proceed], ["dispatch", "suspend", "resume", "discard a, receiving", "close"]),
            ([.offer(.max), .park, .deliver("a"), .disconnect, .proceed], ["dispatch", "suspend", "resume", "discard a", "close"]),
            ([.offer(.max), .ask, .park, .deliver("a"), .disconnect, .receive(1)], ["dispatch", "-", "read", "send a", "receiving", "close"]),
            (
                [.offer(.max, awaitsContinue: true), .ask, .park, .deliver("a"), .disconnect],
                ["dispatch", "-", "read", "-", "discard a, receiving"]
            ),
            // The server stops.
            ([.stop("s"), .offer(9)], ["-", #"decline("s")"#]),
            ([.disconnect, .offer(9)], ["receiving", "close"]),
            (
                [.offer(.max), .attach(1), .park, .stop("s"), .deliver("a"), .proceed],
                ["dispatch", "kept", "suspend", "resume, cancel 1", "discard a", #"decline("s")"#]
            ),
            (
                [.offer(.max), .attach(1), .ask, .park, .receive(1, isFull: true), .stop("s"), .deliver("a"), .receive(1)],
                ["dispatch", "kept", "-", "read", "suspend", "send s, resume, cancel 1", "discard a", "close"]
            ),
            (
                [.offer(9), .attach(1), .ask, .park, .stop("s"), .receive(9), .proceed],
                ["dispatch", "kept", "-", "read", "cancel 1", "discard", #"answer("s")"#]
            ),
            // libmicrohttpd ends the request itself.
            ([.offer(9), .attach(1), .ask, .park, .close, .ask, .deliver("a")], ["dispatch", "kept", "-", "read", "cancel 1", "-", "discard a"]),
            ([.offer(9), .ask, .park, .deliver("a"), .close], ["dispatch", "-", "read", "-", "discard a"]),
        ] as [([Input], [String])])
    func upload(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }

    /// Every sequence of so many inputs: a connection is resumed only while it is suspended, and not suspended at the end of a stop.
    @Test(
        "Suspended and resumed in turns",
        arguments: [
            [.proceed, .park, .attach(1), .deliver("a"), .disconnect, .stop("s"), .answered(7)],
            [.proceed, .park, .receive(1), .receive(1, isFull: true), .ask, .deliver("a"), .disconnect, .stop("s")],
        ] as [[Input]])
    func suspension(_ inputs: [Input]) {
        let isStreamed = inputs.contains { if case .ask = $0 { true } else { false } }
        var sequences: [[Int]] = [[]]
        for _ in 0..<6 { sequences = sequences.flatMap { sequence in inputs.indices.map { sequence + [$0] } } }
        for sequence in sequences {
            var machine = Machine()
            if isStreamed { _ = machine.offer(UploadProgress(rest: .max, awaitsContinue: false)) }
            var isSuspended = false
            for index in sequence {
                var effects = Machine.Effects()
                switch inputs[index] {
                // While it is suspended, libmicrohttpd calls nothing.
                case .proceed, .park, .receive, .answered: if isSuspended { continue }
                default: break
                }
                switch inputs[index] {
                case .proceed: _ = machine.proceed()
                case .park: if case .suspend = machine.park() { isSuspended = true }
                case .receive(let count, let isFull): if case .suspend = machine.receive(count, isFull: isFull) { isSuspended = true }
                case .answered(let stream): machine.answered(with: stream)
                case .attach(let work): _ = machine.attach(work)
                case .answer, .offer, .deliverCalmly, .close: break
                case .ask: effects = machine.ask()
                case .deliver(let reply): effects = machine.deliver(reply, isUrgent: true)
                case .disconnect: effects = machine.disconnect()
                case .giveUp(let reply): effects = machine.giveUp(reply)
                case .stop(let reply): effects = machine.stop(reply)
                }
                if effects.resume {
                    if !isSuspended { Issue.record("resumed twice: \(sequence)") }
                    isSuspended = false
                }
                if case .stop = inputs[index], isSuspended { Issue.record("suspended after a stop: \(sequence)") }
            }
            let isParked =
                switch machine.state {
                case .parked: true
                case .uploading(_, let upload): upload.isSuspended
                default: false
                }
            if isParked != isSuspended { Issue.record("\(machine.state): \(sequence)") }
        }
    }
}

@Suite struct StreamMachineTests {
    enum Input: Sendable {
        case read, pending, wake, cut(BodyEnd), close(BodyEnd)
    }

    private func run(_ inputs: [Input]) -> [String] {
        var machine = SizedBodyMachine()
        return inputs.map { input in
            switch input {
            case .read: machine.beginRead() ? "ask" : "cut"
            case .pending: "\(machine.pending())"
            case .wake: machine.wake() ? "resume" : "-"
            case .cut(let reason): machine.cut(reason) ? "resume" : "-"
            case .close(let natural): machine.close(natural).map { "\($0)" } ?? "-"
            }
        }
    }

    @Test(
        "Inputs and what comes of them",
        arguments: [
            ([.read, .pending, .wake, .wake, .read, .pending], ["ask", "suspend", "resume", "-", "ask", "suspend"]),
            // Woken before, between and after.
            ([.wake, .read, .pending], ["-", "ask", "suspend"]),
            ([.read, .wake, .pending, .read, .pending], ["ask", "-", "retry", "ask", "suspend"]),
            ([.read, .wake, .wake, .pending, .pending], ["ask", "-", "-", "retry", "suspend"]),
            // Cut.
            ([.cut(.stopped), .read, .pending, .close(.disconnected)], ["-", "cut", "cut", "stopped"]),
            ([.read, .cut(.disconnected), .pending, .wake, .close(.stopped)], ["ask", "-", "cut", "-", "disconnected"]),
            (
                [.read, .pending, .cut(.disconnected), .cut(.stopped), .wake, .read, .close(.disconnected)],
                ["ask", "suspend", "resume", "-", "-", "cut", "disconnected"]
            ),
            // Closed once; whole is whole.
            (
                [.read, .close(.completed), .close(.disconnected), .wake, .cut(.stopped), .read, .pending],
                ["ask", "completed", "-", "-", "-", "cut", "cut"]
            ),
            ([.read, .cut(.stopped), .close(.completed)], ["ask", "-", "completed"]),
        ] as [([Input], [String])])
    func table(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }
}

@Suite struct LiveMachineTests {
    enum Input: Sendable {
        case begin, wake, serve, pause, yield, fill, roomMade, cut(BodyEnd), end(BodyEnd), close(BodyEnd)
    }

    private func run(_ inputs: [Input]) -> [String] {
        var machine = LiveMachine()
        return inputs.map { input in
            switch input {
            case .begin: machine.begin().map { "\($0)" } ?? "suspend"
            case .wake: machine.wake() ? "enqueue" : "-"
            case .serve: machine.serve() ? "serve" : "cut"
            case .pause: "\(machine.pause())"
            case .yield: "\(machine.yield())"
            case .fill: "\(machine.fill())"
            case .roomMade: machine.roomMade() ? "serve" : "-"
            case .cut(let reason): "\(machine.cut(reason))"
            case .end(let end): "\(machine.end(end))"
            case .close(let natural): machine.close(natural).map { "\($0)" } ?? "-"
            }
        }
    }

    @Test(
        "Inputs and what comes of them",
        arguments: [
            (
                [.begin, .serve, .pause, .wake, .wake, .serve, .end(.completed), .begin, .close(.completed)],
                ["suspend", "serve", "rest", "enqueue", "-", "serve", "end", "completed", "completed"]
            ),
            // Woken before, between and while it is served.
            ([.wake, .begin, .wake, .serve, .wake, .pause, .serve, .pause], ["-", "suspend", "-", "serve", "-", "again", "serve", "rest"]),
            ([.begin, .serve, .yield, .wake, .serve, .pause], ["suspend", "serve", "again", "-", "serve", "rest"]),
            // A full socket: woken or not makes no difference.
            ([.begin, .serve, .fill, .wake, .roomMade, .roomMade, .serve, .pause], ["suspend", "serve", "rest", "-", "serve", "-", "serve", "rest"]),
            // Cut: at the beginning, waiting, full, queued, while it is served, and at last.
            ([.cut(.stopped), .begin, .close(.disconnected)], ["nothing", "stopped", "stopped"]),
            (
                [.begin, .serve, .pause, .cut(.disconnected), .cut(.stopped), .wake, .begin, .close(.disconnected)],
                ["suspend", "serve", "rest", "resume", "nothing", "-", "disconnected", "disconnected"]
            ),
            ([.begin, .serve, .fill, .cut(.stopped), .roomMade, .begin], ["suspend", "serve", "rest", "resumeUnwatched", "-", "stopped"]),
            ([.begin, .cut(.stopped), .wake, .serve, .end(.disconnected), .begin], ["suspend", "nothing", "-", "cut", "end", "stopped"]),
            ([.begin, .serve, .cut(.stopped), .pause, .begin], ["suspend", "serve", "nothing", "end", "stopped"]),
            ([.begin, .serve, .cut(.stopped), .fill, .begin], ["suspend", "serve", "nothing", "end", "stopped"]),
            ([.begin, .serve, .cut(.stopped), .end(.completed), .begin], ["suspend", "serve", "nothing", "end", "stopped"]),
            // Closed once; whole is what libmicrohttpd says is whole.
            (
                [.begin, .serve, .end(.completed), .cut(.stopped), .close(.disconnected), .close(.completed)],
                ["suspend", "serve", "end", "nothing", "disconnected", "-"]
            ),
            ([.close(.disconnected), .wake, .cut(.stopped)], ["disconnected", "-", "nothing"]),
        ] as [([Input], [String])])
    func table(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }
}
