// Embeds each line of its input, on the next server every time, and counts.
// Usage: round_robin HOST:PORT,HOST:PORT
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <iostream>
#include <string>

#include "vecserve/v1/embedding.grpc.pb.h"

namespace pb = vecserve::v1;

int main(int, char** argv) {
  grpc::ChannelArguments arguments;
  arguments.SetLoadBalancingPolicyName("round_robin");
  // Where one DNS name has all the addresses, this is "dns:///NAME:PORT".
  const std::string target = "ipv4:" + std::string(argv[1]);
  const auto client = pb::EmbeddingService::NewStub(
      grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));

  std::string line;
  for (int count = 1; std::getline(std::cin, line); ++count) {
    pb::EmbedRequest request;
    request.set_model("all-MiniLM-L6-v2");
    request.add_items()->set_text(line);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::EmbedResponse response;
    const grpc::Status status = client->Embed(&context, request, &response);
    if (!status.ok() || !response.results(0).has_embedding()) {
      std::cerr << status.error_message() << response.ShortDebugString() << std::endl;
      return 1;
    }
    std::cout << "ok " << count << std::endl;
  }
}
