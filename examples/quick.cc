// The smallest whole program: a counter that any number of processes may share.
#include <cstdint>
#include <cstdio>

#include "epoch/epoch.h"
#include "epoch/typed.h"

int main() {
  epoch::Region region = epoch::Region::OpenOrCreate("quick").value();
  epoch::Participant self = epoch::Participant::Join(region, {.name = "counter"}).value();
  epoch::UpdateValue<int>(self, [](int& count) { ++count; }).value();  // no update is ever lost
  epoch::Pin pin = self.Pin();  // one whole state; it stays as it is while the pin is held
  std::printf("epoch %ju: %d\n", std::uintmax_t{pin.epoch()}, *epoch::Value<int>(pin).value());
  epoch::Region::Unlink("quick").IgnoreError();
}
