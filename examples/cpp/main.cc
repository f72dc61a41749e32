// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: main HOST:PORT [--pause]; --pause waits for Enter before the photos.
#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "embed.h"

namespace pb = vecserve::v1;
using std::string;
using Vector = std::vector<float>;

const string kText = "all-MiniLM-L6-v2", kImage = "clip-vit-base-patch32", kAudio = "whisper-base";

double Dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Makes a message of one item, so that each can have its model and options.
pb::Item& Add(vecserve::Requests& requests, const string& model, const string& id) {
  auto& request = requests.emplace_back();
  request.set_model(model);
  request.add_items()->set_item_id(id);
  return *request.mutable_items(0);
}

string Read(const string& name) {
  std::ifstream file("../data/" + name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read examples/data/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

int main(int argc, char** argv) try {
  const auto client = pb::EmbeddingService::NewStub(
      grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  vecserve::Requests sentences, media;
  Add(sentences, kText, "reset-password").set_text("How do I reset my password?");
  Add(sentences, kText, "forgot-login").set_text("I forgot my login details.");
  Add(sentences, kImage, "broken.jpg").set_image("not a JPEG");
  Add(sentences, kText, "late").set_text("Too late.");
  sentences.back().mutable_options()->mutable_timeout()->set_nanos(1000);
  Add(media, kImage, "dog-dalmatian.jpg").set_image(Read("photos/dog-dalmatian.jpg"));
  Add(media, kImage, "dog-mastiff.jpg").set_image(Read("photos/dog-mastiff.jpg"));
  Add(media, kAudio, "austen-0880.flac").set_audio(Read("speech/austen-0880.flac"));
  Add(media, kAudio, "austen-0890.flac").set_audio(Read("speech/austen-0890.flac"));

  std::map<string, Vector> vectors;
  for (const vecserve::Requests* round : {&sentences, &media}) {
    if (round == &media && argc > 2) {
      std::cout << "press Enter to go on" << std::endl;
      std::cin.get();
    }
    for (const auto& [id, result] : vecserve::Embed(*client, *round)) {
      if (result.has_error()) {
        const auto code = static_cast<absl::StatusCode>(result.error().code());
        std::cout << "error " << id << " " << code << " " << result.error().message() << std::endl;
      } else {
        vectors[id] = vecserve::VectorOf(result);
        std::cout << "vector " << id << " " << vectors[id].size() << std::endl;
      }
    }
  }
  const auto compare = [&vectors](const string& name, const string& other) {
    const Vector &a = vectors.at(name), &b = vectors.at(other);
    std::cout << "similarity " << name << " " << other << " " << std::fixed
              << Dot(a, b) / std::sqrt(Dot(a, a) * Dot(b, b)) << std::endl;
  };
  compare("reset-password", "forgot-login");
  compare("dog-dalmatian.jpg", "dog-mastiff.jpg");
  compare("austen-0880.flac", "austen-0890.flac");

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
  pb::ListModelsResponse reply;
  const grpc::Status status = client->ListModels(&context, {}, &reply);
  if (!status.ok()) throw std::runtime_error(status.error_message());
  for (const auto& model : reply.models()) {
    const string& name = model.name();
    if (!model.trained() && (name == kText || name == kImage || name == kAudio)) {
      std::cout << "untrained " << name << " has random weights, its vectors mean nothing\n";
    }
  }
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << std::endl;
  return 1;
}
