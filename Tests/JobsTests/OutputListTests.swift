import Testing

@testable import Jobs
@testable import TestSupport

@Suite struct OutputListTests {
    private func output(_ job: Job, _ name: String) -> Output {
        Output(job: job.id, node: "2", name: name, kind: .text, contentType: "text/plain", blob: Blob(source: .text("x"), size: 1))
    }

    @Test("It is a list", arguments: [0, 1, 63, 64, 65, 128, 1000])
    func list(count: Int) throws {
        let job = Job(submission: try .sample())
        let outputs = (0..<count).map { output(job, "\($0)") }
        var list = OutputList(outputs)
        #expect(list.map(\.name) == outputs.map(\.name) && list.count == count && list.last?.name == outputs.last?.name)
        #expect(list.indices.dropFirst(count / 2).map { list[$0].name } == outputs.dropFirst(count / 2).map(\.name))
        let copy = list
        list.append(output(job, "more"))
        #expect(copy.count == count && list.count == count + 1 && list.last?.name == "more")
        list.removeAll()
        #expect(list.isEmpty && copy.count == count)
    }

    /// With an array each of them would be copied each time, together five thousand million.
    @Test(.timeLimit(.minutes(5))) func aJobTakesTensOfThousands() throws {
        let job = Job(submission: try .sample())
        job.started()
        var ids: [String] = []
        for number in 1...100_000 {
            let output = output(job, "\(number)")
            ids.append(output.asset.id)
            job.add(output)
            if number.isMultiple(of: 1000) { #expect(job.snapshot.outputs.count == number) }
        }
        for (place, id) in ids.enumerated() where job.output(id)?.name != "\(place + 1)" { Issue.record("\(id) is not output \(place + 1)") }
        #expect(job.output("none") == nil)
        job.returned()
        #expect(job.outputs.isEmpty && job.output(ids[0]) == nil)
        job.add(output(job, "again"))
        #expect(job.output(job.outputs[0].asset.id)?.name == "again")
    }
}
