import ArgumentParser

struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Has a bridge run jobs: blocking POST /run. Every answer is checked.")

    @OptionGroup var options: JobOptions

    @Flag(help: "Fetch every output and look whether it is a whole PNG, behind the measured time.")
    var verify = false

    func run() async throws {
        let target = try Target(options.url), verify = verify
        let (report, complaints) = try await JobCallers(options.template).run(callers: options.callers, jobs: options.jobs, rate: options.rate) { loop in
            BridgeCaller(target, fetchesOutput: verify, on: loop)
        }
        try Output.write(report, complaints)
    }
}
