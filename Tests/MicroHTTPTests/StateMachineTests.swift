@testable import MicroHTTP
import Testing

/// Reply: its text; work: its number; stream: its number.
private typealias Machine = ExchangeMachine<String, Int, Int>

@Suite struct ExchangeMachineTests {
    enum Input: Sendable {
        case proceed, park, attach(Int), deliver(String), disconnect, stop(String), answered(Int?), close
    }

    /// What each input returned, as text.
    private func run(_ inputs: [Input]) -> [String] {
        var machine = Machine()
        return inputs.map { input in
            switch input {
            case .proceed: "\(machine.proceed())"
            case .park: "\(machine.park())"
            case .attach(let work): machine.attach(work) ? "kept" : "cancel it"
            case .deliver(let reply): text(machine.deliver(reply))
            case .disconnect: text(machine.disconnect())
            case .stop(let reply): text(machine.stop(reply))
            case .answered(let stream):
                { machine.answered(with: stream); return "-" }()
            case .close: text(machine.close())
            }
        }
    }

    private func text(_ effects: Machine.Effects) -> String {
        var parts: [String] = []
        if effects.resume { parts.append("resume") }
        if let work = effects.cancel { parts.append("cancel \(work)") }
        if let stream = effects.stream { parts.append("stream \(stream)") }
        if let reply = effects.discarded { parts.append("discard \(reply)") }
        if effects.wasReceiving { parts.append("receiving") }
        return parts.isEmpty ? "-" : parts.joined(separator: ", ")
    }

    @Test("Inputs and what comes of them", arguments: [
        // The two orders in which a reply and the access handler can meet.
        ([.proceed, .attach(1), .deliver("a"), .park, .close], ["dispatch", "kept", "-", #"answer("a")"#, "-"]),
        ([.proceed, .attach(1), .park, .deliver("a"), .proceed, .close], ["dispatch", "kept", "suspend", "resume", #"answer("a")"#, "-"]),
        ([.proceed, .park, .attach(1), .deliver("a"), .proceed, .close], ["dispatch", "suspend", "kept", "resume", #"answer("a")"#, "-"]),
        // A reply counts once.
        ([.proceed, .park, .deliver("a"), .deliver("b"), .proceed, .deliver("c")],
            ["dispatch", "suspend", "resume", "discard b", #"answer("a")"#, "discard c"]),
        // The client leaves: while the request arrives, before and after parking, with the reply waiting, with the reply queued.
        ([.disconnect, .proceed, .close], ["receiving", "close", "-"]),
        ([.proceed, .disconnect, .attach(1), .park, .deliver("a"), .close], ["dispatch", "-", "cancel it", "close", "discard a", "-"]),
        ([.proceed, .attach(1), .disconnect, .park, .close], ["dispatch", "kept", "cancel 1", "close", "-"]),
        ([.proceed, .attach(1), .park, .disconnect, .proceed, .deliver("a"), .close],
            ["dispatch", "kept", "suspend", "resume, cancel 1", "close", "discard a", "-"]),
        ([.proceed, .park, .deliver("a"), .disconnect, .proceed, .close], ["dispatch", "suspend", "resume", "discard a", "close", "-"]),
        ([.proceed, .park, .deliver("a"), .proceed, .answered(7), .disconnect, .disconnect, .close],
            ["dispatch", "suspend", "resume", #"answer("a")"#, "-", "stream 7", "stream 7", "stream 7"]),
        // The server stops at each of these moments.
        ([.stop("s"), .proceed, .answered(nil), .close], ["-", #"answer("s")"#, "-", "-"]),
        ([.stop("s"), .disconnect, .proceed], ["-", "receiving", "close"]),
        ([.proceed, .attach(1), .stop("s"), .park, .deliver("a")], ["dispatch", "kept", "cancel 1", #"answer("s")"#, "discard a"]),
        ([.proceed, .attach(1), .park, .stop("s"), .deliver("a"), .proceed],
            ["dispatch", "kept", "suspend", "resume, cancel 1", "discard a", #"answer("s")"#]),
        ([.proceed, .park, .stop("s"), .attach(1)], ["dispatch", "suspend", "resume", "cancel it"]),
        ([.proceed, .park, .deliver("a"), .stop("s"), .proceed], ["dispatch", "suspend", "resume", "-", #"answer("a")"#]),
        ([.proceed, .park, .deliver("a"), .proceed, .answered(7), .stop("s")],
            ["dispatch", "suspend", "resume", #"answer("a")"#, "-", "stream 7"]),
        // Refused by the head alone.
        ([.answered(nil), .close, .deliver("a"), .disconnect, .stop("s"), .proceed, .park, .close],
            ["-", "-", "discard a", "-", "-", "close", "close", "-"]),
        // libmicrohttpd ends the request itself.
        ([.proceed, .attach(1), .close, .deliver("a"), .attach(2)], ["dispatch", "kept", "cancel 1", "discard a", "cancel it"]),
        ([.proceed, .deliver("a"), .close], ["dispatch", "-", "discard a"]),
    ] as [([Input], [String])])
    func table(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }

    /// Every sequence of so many inputs: a connection is resumed only while it is suspended, and not suspended at the end of a stop.
    @Test func suspendedAndResumedInTurns() {
        let inputs: [Input] = [.proceed, .park, .attach(1), .deliver("a"), .disconnect, .stop("s"), .answered(7)]
        var sequences: [[Int]] = [[]]
        for _ in 0..<6 { sequences = sequences.flatMap { sequence in inputs.indices.map { sequence + [$0] } } }
        for sequence in sequences {
            var machine = Machine()
            var isSuspended = false
            for index in sequence {
                // While it is suspended, libmicrohttpd calls nothing.
                let isCallback = [0, 1, 6].contains(index)
                if isCallback, isSuspended { continue }
                let effects: Machine.Effects
                switch inputs[index] {
                case .proceed:
                    _ = machine.proceed()
                    continue
                case .park:
                    if case .suspend = machine.park() { isSuspended = true }
                    continue
                case .attach(let work):
                    _ = machine.attach(work)
                    continue
                case .answered(let stream):
                    machine.answered(with: stream)
                    continue
                case .deliver(let reply): effects = machine.deliver(reply)
                case .disconnect: effects = machine.disconnect()
                case .stop(let reply): effects = machine.stop(reply)
                case .close: effects = machine.close()
                }
                if effects.resume {
                    #expect(isSuspended, "\(sequence)")
                    isSuspended = false
                }
                if case .stop = inputs[index] { #expect(!isSuspended, "\(sequence)") }
            }
            if case .parked = machine.state { #expect(isSuspended, "\(sequence)") } else { #expect(!isSuspended, "\(sequence)") }
        }
    }
}

@Suite struct StreamMachineTests {
    enum Input: Sendable {
        case read, pending, wake, cut(BodyEnd), close(BodyEnd)
    }

    private func run(_ inputs: [Input]) -> [String] {
        var machine = StreamMachine()
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

    @Test("Inputs and what comes of them", arguments: [
        ([.read, .pending, .wake, .wake, .read, .pending], ["ask", "suspend", "resume", "-", "ask", "suspend"]),
        // Woken before, between and after.
        ([.wake, .read, .pending], ["-", "ask", "suspend"]),
        ([.read, .wake, .pending, .read, .pending], ["ask", "-", "retry", "ask", "suspend"]),
        ([.read, .wake, .wake, .pending, .pending], ["ask", "-", "-", "retry", "suspend"]),
        // Cut.
        ([.cut(.stopped), .read, .pending, .close(.disconnected)], ["-", "cut", "cut", "stopped"]),
        ([.read, .cut(.disconnected), .pending, .wake, .close(.stopped)], ["ask", "-", "cut", "-", "disconnected"]),
        ([.read, .pending, .cut(.disconnected), .cut(.stopped), .wake, .read, .close(.disconnected)],
            ["ask", "suspend", "resume", "-", "-", "cut", "disconnected"]),
        // Closed once; whole is whole.
        ([.read, .close(.completed), .close(.disconnected), .wake, .cut(.stopped), .read, .pending],
            ["ask", "completed", "-", "-", "-", "cut", "cut"]),
        ([.read, .cut(.stopped), .close(.completed)], ["ask", "-", "completed"]),
    ] as [([Input], [String])])
    func table(_ inputs: [Input], _ expected: [String]) {
        #expect(run(inputs) == expected)
    }
}
