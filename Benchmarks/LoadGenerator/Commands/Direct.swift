import ArgumentParser

struct Direct: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Has ComfyUI itself run jobs, without a bridge: POST /prompt, and a socket for each caller until its prompt has ended.")

    @OptionGroup var options: JobOptions

    func run() async throws {
        let target = try Target(options.url)
        let (report, complaints) = try await JobCallers(options.template).run(callers: options.callers, jobs: options.jobs, rate: options.rate) { loop in
            try await DirectCaller.connect(target, on: loop)
        }
        try Output.write(report, complaints)
    }
}
